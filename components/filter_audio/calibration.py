"""How well a threshold tells right clips from wrong ones, tried on gold clips with planted labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.config.clap import ThresholdConfig
from components.filter_audio.thresholds import Threshold, calibrate, claim_scores


def planted_trial(threshold: Threshold, similarity: np.ndarray, label_ids: Sequence[int]) -> dict[str, float]:
    """Let every clip claim each label in turn: one claim is right, the others are planted.

    Args:
        threshold: calibrated on other clips.
        similarity: (N, K) cosines of real clips and label prompts.
        label_ids: true labels.

    Returns:
        `recall` (share of right claims that pass), `wrong_kept` (share of wrong claims that pass),
        `precision` (share of right ones among those kept, were a half of the candidates right).
    """
    count, labels = similarity.shape
    right: list[bool] = []
    wrong: list[bool] = []
    for label in range(labels):
        scores, margins = claim_scores(similarity, [label] * count)
        for clip in range(count):
            passed = threshold.reason(float(scores[clip]), float(margins[clip])) is None
            (right if label_ids[clip] == label else wrong).append(passed)
    recall, kept = float(np.mean(right)), float(np.mean(wrong))
    return {"recall": recall, "wrong_kept": kept, "precision": recall / max(recall + kept, 1e-12)}


def compare_kinds(
    candidates: Sequence[ThresholdConfig],
    validation: tuple[np.ndarray, Sequence[int]],
    held_out: tuple[np.ndarray, Sequence[int]],
) -> list[dict[str, float | str]]:
    """Calibrate each threshold on validation clips and try it on held-out ones.

    Args:
        candidates: thresholds to compare.
        validation: similarity (N, K) and true labels.
        held_out: the same of other clips.

    Returns:
        One row per candidate: its settings, its bound, and the figures of `planted_trial`.
    """
    scores, margins = claim_scores(*validation)
    rows: list[dict[str, float | str]] = []
    for config in candidates:
        threshold = calibrate(config, scores, margins)
        bound = threshold.min_margin if threshold.min_score is None else threshold.min_score
        percentile = float("nan") if config.percentile is None or config.kind == "fixed" else config.percentile
        settings = {"kind": config.kind, "percentile": percentile, "bound": float(bound or 0.0)}
        rows.append({**settings, **planted_trial(threshold, *held_out)})
    return rows
