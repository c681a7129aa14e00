"""Scores of a clip's claim to its label, and the threshold that the gold validation clips give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from common.config.clap import ThresholdConfig
from common.errors import DataError


class Threshold(BaseModel):
    """What a clip must reach; a null bound does not apply."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    min_score: float | None = None
    min_margin: float | None = None
    calibration_clips: int = 0

    def reason(self, score: float, margin: float) -> str | None:
        """`low_score`, `low_margin`, or null for a clip that passes."""
        if self.min_score is not None and score < self.min_score:
            return "low_score"
        if self.min_margin is not None and margin < self.min_margin:
            return "low_margin"
        return None


def claim_scores(similarity: np.ndarray, claims: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Scores and margins of clips that claim to be of a label, or of several at once.

    Args:
        similarity: (N, K) cosines of clips and label prompts.
        claims: of each clip, the ids of the labels that it claims; at least one.

    Returns:
        Score (N,): cosine with the claimed label's prompt, the least of several. Margin (N,): score minus the cosine
        of the best label that is not claimed; -1, the least there is, stands for it where all are.
    """
    claimed = np.zeros(similarity.shape, bool)
    for row, labels in enumerate(claims):
        claimed[row, list(labels)] = True
    score = np.where(claimed, similarity, np.inf).min(axis=1)
    return score, score - np.where(claimed, -1.0, similarity).max(axis=1)


def calibrate(config: ThresholdConfig, scores: np.ndarray, margins: np.ndarray) -> Threshold:
    """The threshold of a replicate.

    Args:
        config: the kind, and the percentile or the fixed bound.
        scores: (N,) of gold validation clips with their true labels.
        margins: (N,) of the same.

    Raises:
        DataError: there are no clips to take the percentile of.
    """
    if config.kind == "fixed":
        return Threshold(kind="fixed", min_score=config.min_score)
    if config.percentile is None:
        return Threshold(kind="margin", min_margin=0.0, calibration_clips=len(margins))
    if not len(scores):
        raise DataError(
            f"no gold validation clips to calibrate the {config.kind!r} threshold of the filter: "
            "give the dataset validation clips or set threshold.kind to 'fixed'"
        )
    values = scores if config.kind == "percentile" else margins
    bound = float(np.percentile(values, config.percentile))
    if config.kind == "percentile":
        return Threshold(kind="percentile", min_score=bound, calibration_clips=len(values))
    return Threshold(kind="margin", min_margin=bound, calibration_clips=len(values))


def planted_trial(threshold: Threshold, similarity: np.ndarray, claims: Sequence[Sequence[int]]) -> dict[str, float]:
    """Let every clip claim its own labels, then every other label in the place of its first one: planted claims.

    Args:
        threshold: calibrated on other clips.
        similarity: (N, K) cosines of real clips and label prompts.
        claims: ids of their true labels.

    Returns:
        `recall` (share of right claims that pass), `wrong_kept` (share of wrong claims that pass),
        `precision` (share of right ones among those kept, were a half of the candidates right).
    """
    rows, planted = planted_claims(similarity.shape[1], claims)
    recall = _passed(threshold, similarity, claims)
    kept = _passed(threshold, similarity[rows], planted) if rows else 0.0
    return {"recall": recall, "wrong_kept": kept, "precision": recall / max(recall + kept, 1e-12)}


def planted_claims(labels: int, claims: Sequence[Sequence[int]]) -> tuple[list[int], list[tuple[int, ...]]]:
    """Every other label in the place of each clip's first one: the clips' rows, and the wrong claims."""
    pairs = [
        (row, (label, *own[1:])) for row, own in enumerate(claims) for label in range(labels) if label not in set(own)
    ]
    return [row for row, _ in pairs], [claim for _, claim in pairs]


def _passed(threshold: Threshold, similarity: np.ndarray, claims: Sequence[Sequence[int]]) -> float:
    scores, margins = claim_scores(similarity, claims)
    reasons = [threshold.reason(float(score), float(margin)) for score, margin in zip(scores, margins, strict=True)]
    return sum(reason is None for reason in reasons) / len(reasons)
