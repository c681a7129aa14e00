"""The cumulative account of all rounds: `filter.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from common.records import SyntheticClip


def summarize(
    previous: Mapping[str, Any] | None, decided: Sequence[SyntheticClip], replicates: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    """Add a round to the account.

    Args:
        previous: the account of the rounds before; None in round 0.
        decided: this round's clips; none when nothing was left to do.
        replicates: by seed, the figures that the filter wrote; none when nothing was left to do.

    Returns:
        `rounds`, `thresholds` by seed, `candidates` of all rounds, and `empty_classes`: what no
        clip was accepted for.
    """
    before = previous or {"rounds": [], "thresholds": {}, "candidates": []}
    number = len(before["rounds"])
    candidates = [*before["candidates"], *(_candidate(clip, number) for clip in decided)]
    return {
        "rounds": [*before["rounds"], _round(number, decided)],
        "thresholds": {**before["thresholds"], **{str(seed): dict(figures) for seed, figures in replicates.items()}},
        "candidates": candidates,
        "empty_classes": _empty_classes(candidates),
    }


def reason_counts(decided: Iterable[SyntheticClip]) -> dict[str, int]:
    """How many clips were rejected, by reason."""
    return dict(sorted(Counter(clip.reason for clip in decided if clip.reason is not None).items()))


def _candidate(clip: SyntheticClip, number: int) -> dict[str, Any]:
    return {
        "clip_id": clip.clip_id,
        "round": number,
        "seed": clip.seed,
        "recipe": clip.recipe,
        "label": clip.label,
        "score": clip.clap_score,
        "margin": clip.clap_margin,
        "reason": clip.reason,
    }


def _round(number: int, decided: Sequence[SyntheticClip]) -> dict[str, Any]:
    by_recipe: dict[str, dict[str, int]] = {}
    for clip in decided:
        counts = by_recipe.setdefault(clip.recipe, {"accepted": 0, "rejected": 0})
        counts["accepted" if clip.reason is None else "rejected"] += 1
    return {
        "round": number,
        "accepted": sum(counts["accepted"] for counts in by_recipe.values()),
        "rejected": sum(counts["rejected"] for counts in by_recipe.values()),
        "by_recipe": by_recipe,
        "reasons": reason_counts(decided),
    }


def _empty_classes(candidates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    asked = {(c["seed"], c["recipe"], c["label"]) for c in candidates}
    filled = {(c["seed"], c["recipe"], c["label"]) for c in candidates if c["reason"] is None}
    return [{"seed": seed, "recipe": recipe, "label": label} for seed, recipe, label in sorted(asked - filled)]
