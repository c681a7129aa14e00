"""CLAP scores of the labels that clips claim, and the threshold calibrated on gold validation clips."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from common.config.clap import ThresholdConfig
from common.contracts.generation import Bounds
from common.errors import DataError

Flags = NDArray[np.bool_]


class Threshold(Bounds):
    """Bounds, as a judge."""

    def passes(self, similarity: np.ndarray, claims: Flags) -> Flags:
        """(N,) whether clips pass, from cosines (N, K) with the label prompts and the labels that they claim (N, K)."""
        found = zip(*claim_scores(similarity, claims), strict=True)
        return np.array([self.reason(float(score), float(margin)) is None for score, margin in found], dtype=bool)

    def reason(self, score: float, margin: float) -> str | None:
        """`low_score`, `low_margin`, or None for a clip that passes."""
        if self.min_score is not None and score < self.min_score:
            return "low_score"
        if self.min_margin is not None and margin < self.min_margin:
            return "low_margin"
        return None


def claim_scores(similarity: np.ndarray, claims: Flags) -> tuple[np.ndarray, np.ndarray]:
    """Scores and margins of clips that claim one label or several.

    Args:
        similarity: (N, K) cosines of clips and label prompts.
        claims: (N, K) whether a clip claims a label; at least one.

    Returns score (N,): cosine with the prompt of the claimed label, the lowest of several. Margin (N,): score minus the
    highest cosine with an unclaimed label; minus -1, the lowest cosine, if all labels are claimed.
    """
    score = np.where(claims, similarity, np.inf).min(axis=1)
    return score, score - np.where(claims, -1.0, similarity).max(axis=1)


def calibrate(config: ThresholdConfig, scores: np.ndarray, margins: np.ndarray) -> Threshold:
    """Threshold of a replicate.

    Scores and margins (N,) are those of gold validation clips that claim their true labels.

    Raises DataError: there are no clips to take the percentile of.
    """
    if config.kind == "fixed":
        return Threshold(kind="fixed", min_score=config.min_score)
    if config.percentile is None:
        return Threshold(kind="margin", min_margin=0.0)
    if not len(scores):
        raise DataError(
            f"no gold validation clips to calibrate the {config.kind!r} threshold of the filter: "
            "give the dataset validation clips or set threshold.kind to 'fixed'"
        )
    if config.kind == "percentile":
        return Threshold(kind="percentile", min_score=float(np.percentile(scores, config.percentile)))
    return Threshold(kind="margin", min_margin=float(np.percentile(margins, config.percentile)))


Passes = Callable[[np.ndarray, Flags], Flags]
"""(N,) whether clips pass a judge, from what it says of each label (N, K) and the labels that they claim (N, K)."""


def planted_trial(passes: Passes, heard: np.ndarray, claims: Flags, mains: Sequence[int]) -> dict[str, float]:
    """Trial of a judge on right claims (each clip's own labels) and on planted ones (see `planted_claims`).

    Args:
        heard: (N, K) what the judge says of real clips that it was not fitted to.
        claims: (N, K) true labels of each clip.
        mains: ids of its main label.

    Returns `recall` (share of right claims that pass), `wrong_kept` (share of wrong claims that pass), `precision`
    (share of right claims among those kept, if half of all candidates were right).
    """
    rows, planted = planted_claims(claims, mains)
    recall = float(passes(heard, claims).mean())
    kept = float(passes(heard[rows], planted).mean()) if len(rows) else 0.0
    return {"recall": recall, "wrong_kept": kept, "precision": recall / max(recall + kept, 1e-12)}


def planted_claims(claims: Flags, mains: Sequence[int]) -> tuple[NDArray[np.intp], Flags]:
    """Wrong claims, with every other label in place of each clip's main one: rows of the clips, and the claims."""
    rows, labels = np.nonzero(~claims)
    planted, every = claims[rows], np.arange(len(rows))
    planted[every, np.array(mains)[rows]] = False
    planted[every, labels] = True
    return rows, planted
