"""How well a threshold tells right clips from wrong ones, tried on gold clips with planted labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from components.filter_audio.thresholds import Threshold, claim_scores


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
    recall = _passed(threshold, similarity, claims)
    rows, planted = [], []
    for row, own in enumerate(claims):
        for label in set(range(similarity.shape[1])) - set(own):
            rows.append(row)
            planted.append((label, *own[1:]))
    kept = _passed(threshold, similarity[rows], planted) if rows else 0.0
    return {"recall": recall, "wrong_kept": kept, "precision": recall / max(recall + kept, 1e-12)}


def _passed(threshold: Threshold, similarity: np.ndarray, claims: Sequence[Sequence[int]]) -> float:
    scores, margins = claim_scores(similarity, claims)
    reasons = [threshold.reason(float(score), float(margin)) for score, margin in zip(scores, margins, strict=True)]
    return sum(reason is None for reason in reasons) / len(reasons)
