"""Cumulative account of all rounds: `filter.json`."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from common.contracts.generation import Candidate, Counts, EmptyClass, FilterAccount, FilterFigures, FilterRound, Judged
from common.records.clips import SyntheticClip


def summarize(
    before: FilterAccount | None, decided: Iterable[SyntheticClip], replicates: Mapping[int, FilterFigures]
) -> FilterAccount:
    """Add the round's clips, with their decisions, and the figures of its replicates to the account."""
    before = before or FilterAccount(rounds=[], thresholds={}, candidates=[], empty_classes=[])
    number = len(before.rounds)
    own = [_candidate(clip, number) for clip in decided]
    candidates = [*before.candidates, *own]
    return FilterAccount(
        rounds=[*before.rounds, _round(number, own)],
        thresholds={**before.thresholds, **replicates},
        candidates=candidates,
        empty_classes=_empty_classes(candidates),
    )


def _candidate(clip: SyntheticClip, number: int) -> Candidate:
    kept = ("clip_id", "recipe", "label", "caption", "nearest_similarity", "reason", "second_passes")
    return Candidate(
        **{name: getattr(clip, name) for name in kept},
        seed=clip.replicate,
        round=number,
        score=clip.clap_score,
        margin=clip.clap_margin,
        second_probability=clip.second_probability,
        further_labels=list(clip.further_labels) or None,
    )


def _round(number: int, decided: Sequence[Candidate]) -> FilterRound:
    accepted = Counter(row.recipe for row in decided if row.reason is None)
    rejected = Counter(row.recipe for row in decided if row.reason is not None)
    judged = [row for row in decided if row.second_passes is not None]
    return FilterRound(
        round=number,
        accepted=accepted.total(),
        rejected=rejected.total(),
        by_recipe={name: Counts(accepted=accepted[name], rejected=rejected[name]) for name in accepted | rejected},
        reasons=dict(sorted(Counter(row.reason for row in decided if row.reason is not None).items())),
        judged=_judged(judged) if judged else None,
    )


def _judged(rows: Sequence[Candidate]) -> Judged:
    refused = Counter((row.reason in ("low_score", "low_margin"), not row.second_passes) for row in rows)
    return Judged(clips=len(rows), clap=refused[True, False], second=refused[False, True], both=refused[True, True])


def _empty_classes(candidates: Sequence[Candidate]) -> list[EmptyClass]:
    def claims(accepted_only: bool) -> set[tuple[int, str, str]]:
        return {
            (c.seed, c.recipe, label)
            for c in candidates
            if c.reason is None or not accepted_only
            for label in (c.label, *(c.further_labels or ()))
        }

    asked, filled = claims(False), claims(True)
    return [
        EmptyClass(seed=replicate, recipe=recipe, label=label) for replicate, recipe, label in sorted(asked - filled)
    ]
