"""Cumulative account of all rounds: `filter.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from common.records.clips import SyntheticClip
from components.filter_audio.candidates import Decision


def summarize(
    previous: Mapping[str, Any] | None, decided: Iterable[SyntheticClip], replicates: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    """Add a round to the account.

    Args:
        previous: account of the earlier rounds; None in round 0.
        decided: clips of this round with their decisions; empty if nothing was left to do.
        replicates: figures of the filter, by seed; empty if nothing was left to do.

    Returns:
        `rounds`, `thresholds` by seed, `candidates` (one row per generated clip of any round: caption, score, reason,
        round), and `empty_classes` (seed, recipe and label without an accepted clip). Where there is a second judge, a
        round's `judged` counts the clips that both heard, and those that one or both of them rejected.
    """
    before = previous or {"rounds": [], "thresholds": {}, "candidates": []}
    number = len(before["rounds"])
    own = [_candidate(clip, number) for clip in decided]
    candidates = [*before["candidates"], *own]
    return {
        "rounds": [*before["rounds"], _round(number, own)],
        "thresholds": {**before["thresholds"], **{str(seed): dict(figures) for seed, figures in replicates.items()}},
        "candidates": candidates,
        "empty_classes": _empty_classes(candidates),
    }


def reason_counts(decided: Iterable[Decision]) -> dict[str, int]:
    """Number of rejected clips, by reason."""
    return dict(sorted(Counter(decision.reason for decision in decided if decision.reason is not None).items()))


def _candidate(clip: SyntheticClip, number: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "clip_id": clip.clip_id,
        "round": number,
        "seed": clip.seed,
        "recipe": clip.recipe,
        "label": clip.label,
        "caption": clip.caption,
        "score": clip.clap_score,
        "margin": clip.clap_margin,
        "nearest_similarity": clip.nearest_similarity,
        "reason": clip.reason,
    }
    if clip.second_passes is not None:
        row |= {"second_probability": clip.second_probability, "second_passes": clip.second_passes}
    return row | {"further_labels": list(clip.further_labels)} if clip.further_labels else row


def _round(number: int, decided: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    by_recipe: dict[str, dict[str, int]] = {}
    for row in decided:
        counts = by_recipe.setdefault(row["recipe"], {"accepted": 0, "rejected": 0})
        counts["accepted" if row["reason"] is None else "rejected"] += 1
    reasons = Counter(row["reason"] for row in decided if row["reason"] is not None)
    judged = _judged([row for row in decided if "second_passes" in row])
    return {
        "round": number,
        "accepted": sum(counts["accepted"] for counts in by_recipe.values()),
        "rejected": sum(counts["rejected"] for counts in by_recipe.values()),
        "by_recipe": by_recipe,
        "reasons": dict(sorted(reasons.items())),
        **({"judged": judged} if judged["clips"] else {}),
    }


def _judged(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    refused = Counter((row["reason"] in ("low_score", "low_margin"), not row["second_passes"]) for row in rows)
    alone = {"clap": refused[True, False], "second": refused[False, True]}
    return {"clips": len(rows), **alone, "both": refused[True, True]}


def _empty_classes(candidates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    def claims(accepted_only: bool) -> set[tuple[int, str, str]]:
        return {
            (c["seed"], c["recipe"], label)
            for c in candidates
            if c["reason"] is None or not accepted_only
            for label in (c["label"], *c.get("further_labels", ()))
        }

    asked, filled = claims(False), claims(True)
    return [{"seed": seed, "recipe": recipe, "label": label} for seed, recipe, label in sorted(asked - filled)]
