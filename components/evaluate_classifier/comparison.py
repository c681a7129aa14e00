"""Scores of all methods and the differences between them, from their predictions on the test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.config.evaluation import EvaluateClassifierConfig
from common.methods import Method
from components.evaluate_classifier.selection import listed
from components.evaluate_classifier.statistics import Resampling, difference, holm, recall_gains, resampling, score

Predictions = dict[str, dict[int, NDArray[np.float64]]]
"""Method to seed to (N, K) probabilities."""

BASELINE = "gold"
SUBJECT = "synthio"
COMBINED = "synthio_classic"
BEST_CLASSIC = "best_classic"
"""In each replicate, the classic method that validation chose."""


def compared(methods: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs (method, versus) of a run, the two of the verdict first.

    Args:
        methods: those with predictions, `BEST_CLASSIC` among them where there is one.
    """
    ordered = listed(methods)
    pairs = [(SUBJECT, BASELINE), (COMBINED, BEST_CLASSIC)]
    pairs += [(SUBJECT, other) for other in ordered if other not in (SUBJECT, COMBINED)]
    pairs += [(COMBINED, SUBJECT)]
    pairs += [(other, BASELINE) for other in ordered if other != BASELINE]
    known = set(methods)
    return list(dict.fromkeys((a, b) for a, b in pairs if a in known and b in known and a != b))


def compare(
    predictions: Predictions,
    truth: NDArray[np.int64],
    groups: list[str | None],
    labels: Sequence[str],
    methods: Mapping[str, Method],
    best_classic: Mapping[int, str],
    settings: EvaluateClassifierConfig,
    seed: int,
    zero_shot: NDArray[np.float64] | None = None,
) -> dict[str, Any]:
    """Scores, differences and per-class gains.

    Args:
        predictions: see `Predictions`; a replicate that failed is missing.
        truth: (N,) label ids.
        groups: (N,) group of each test clip.
        labels: names by label id.
        methods: this run's methods.
        best_classic: seed to the classic method chosen on validation.
        settings: of the intervals.
        seed: of the resampling.
        zero_shot: (N, K) probabilities of a model that was not trained on the dataset.

    Returns:
        `methods` (see `statistics.score`, with seeds and title), `best_classic` (the same for the
        classic method that validation chose in each replicate, or null), `differences` (see
        `statistics.difference`; those against gold with `p_holm`, corrected for their number), `per_class`
        (recall gains of the first difference), `resampled` ("clips" or "groups"), `zero_shot` (as a method,
        or null).
    """
    draws = resampling(groups, settings.resamples, seed, settings.confidence, settings.min_groups)
    arms = {name: dict(sorted(predictions[name].items())) for name in listed(predictions) if predictions[name]}
    chosen = {s: arms[name][s] for s, name in sorted(best_classic.items()) if s in arms.get(name, {})}
    scores = {
        name: {"title": methods[name].title, "seeds": list(arm), **_score(arm, truth, settings, draws)}
        for name, arm in arms.items()
    }
    classic = None
    if chosen:
        of_seed = {str(s): best_classic[s] for s in chosen}
        classic = {"chosen": of_seed, "seeds": list(chosen), **_score(chosen, truth, settings, draws)}
    everything = arms | ({BEST_CLASSIC: chosen} if chosen else {})
    pairs = [pair for pair in compared(list(everything)) if _common(everything, *pair)]
    differences = [
        {
            "method": a,
            "versus": b,
            "seeds": _common(everything, a, b),
            **difference(truth, *_paired(everything, a, b), draws),
        }
        for a, b in pairs
    ]
    against_gold = [row for row in differences if row["versus"] == BASELINE]
    for row, corrected in zip(against_gold, holm([row["p"] for row in against_gold]), strict=True):
        row["p_holm"] = corrected
    return {
        "methods": scores,
        "best_classic": classic,
        "differences": differences,
        "per_class": _per_class(everything, pairs, truth, labels, draws),
        "resampled": draws.unit,
        "zero_shot": None
        if zero_shot is None
        else {"title": "Zero-shot CLAP", **score(zero_shot[None], truth, settings.calibration_bins, draws)},
    }


def _score(
    arm: dict[int, NDArray[np.float64]], truth: NDArray[np.int64], settings: EvaluateClassifierConfig, draws: Resampling
) -> dict[str, Any]:
    return score(np.stack(list(arm.values())), truth, settings.calibration_bins, draws)


def _common(arms: Predictions, first: str, second: str) -> list[int]:
    return [seed for seed in arms[first] if seed in arms[second]]


def _paired(arms: Predictions, first: str, second: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    seeds = _common(arms, first, second)
    a, b = (np.stack([arms[name][seed].argmax(axis=1) for seed in seeds]) for name in (first, second))
    return a, b


def _per_class(
    arms: Predictions, pairs: list[tuple[str, str]], truth: NDArray[np.int64], labels: Sequence[str], draws: Resampling
) -> dict[str, Any] | None:
    if not pairs:
        return None
    method, versus = pairs[0]
    rows = recall_gains(truth, *_paired(arms, method, versus), draws)
    return {"method": method, "versus": versus, "classes": [{"label": labels[row["label_id"]], **row} for row in rows]}
