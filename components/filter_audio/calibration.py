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
