"""CLAP scores of the labels that clips claim, and the threshold calibrated on gold validation clips."""

from collections.abc import Callable, Sequence

import numpy as np

from common.config.clap import ThresholdConfig
from common.contracts.generation import Bounds
from common.errors import DataError


class Threshold(Bounds):
    """Bounds, as a judge."""

    def passes(self, similarity: np.ndarray, claims: Sequence[Sequence[int]]) -> np.ndarray:
        """(N,) whether clips pass, from cosines (N, K) with the label prompts and the ids of the labels they claim."""
        found = zip(*claim_scores(similarity, claims), strict=True)
        return np.array([self.reason(float(score), float(margin)) is None for score, margin in found], dtype=bool)

    def reason(self, score: float, margin: float) -> str | None:
        """`low_score`, `low_margin`, or None for a clip that passes."""
        if self.min_score is not None and score < self.min_score:
            return "low_score"
        if self.min_margin is not None and margin < self.min_margin:
            return "low_margin"
        return None


def claim_scores(similarity: np.ndarray, claims: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Scores and margins of clips that claim one label or several.

    Args:
        similarity: (N, K) cosines of clips and label prompts.
        claims: ids of the labels that each clip claims; at least one.

    Returns score (N,): cosine with the prompt of the claimed label, the lowest of several. Margin (N,): score minus the
    highest cosine with an unclaimed label; minus -1, the lowest cosine, if all labels are claimed.
    """
    claimed = np.zeros(similarity.shape, bool)
    for row, labels in enumerate(claims):
        claimed[row, list(labels)] = True
    score = np.where(claimed, similarity, np.inf).min(axis=1)
    return score, score - np.where(claimed, -1.0, similarity).max(axis=1)


def calibrate(config: ThresholdConfig, scores: np.ndarray, margins: np.ndarray) -> Threshold:
    """Threshold of a replicate.

    Scores and margins (N,) are those of gold validation clips that claim their true labels.

    Raises DataError: there are no clips to take the percentile of.
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


Passes = Callable[[np.ndarray, Sequence[Sequence[int]]], np.ndarray]
"""(N,) whether clips pass a judge, from what it says of each label (N, K) and the ids of the labels they claim."""


def planted_trial(passes: Passes, heard: np.ndarray, claims: Sequence[Sequence[int]]) -> dict[str, float]:
    """Trial of a judge on right claims (each clip's own labels) and on planted ones (see `planted_claims`).

    Args:
        heard: (N, K) what the judge says of real clips that it was not fitted to.
        claims: ids of the true labels of each clip.

    Returns `recall` (share of right claims that pass), `wrong_kept` (share of wrong claims that pass), `precision`
    (share of right claims among those kept, if half of all candidates were right).
    """
    rows, planted = planted_claims(heard.shape[1], claims)
    recall = float(passes(heard, claims).mean())
    kept = float(passes(heard[rows], planted).mean()) if rows else 0.0
    return {"recall": recall, "wrong_kept": kept, "precision": recall / max(recall + kept, 1e-12)}


def planted_claims(labels: int, claims: Sequence[Sequence[int]]) -> tuple[list[int], list[tuple[int, ...]]]:
    """Wrong claims, with every other label in place of each clip's first one: rows of the clips, and label ids."""
    pairs = [
        (row, (label, *own[1:])) for row, own in enumerate(claims) for label in range(labels) if label not in set(own)
    ]
    return [row for row, _ in pairs], [claim for _, claim in pairs]
