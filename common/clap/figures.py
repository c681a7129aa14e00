"""Figures of CLAP embeddings: Fréchet (FAD) and kernel (KAD) distance of two sets, retrieval of texts and clips."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import mannwhitneyu

from common.errors import DataError

KERNEL_SCALE = 100.0
"""Factor of the kernel distance, as in arXiv 2502.15602, to give readable numbers."""

TOP = (1, 5, 10)
"""Ranks k of recall at k."""

BLOCK = 512
"""Rows of each set per block of distances, to bound memory."""


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of the Gaussians fitted to two sets (arXiv 1812.08466), squared as is usual.

    |mean_a - mean_b|² + tr(C_a + C_b - 2 (C_a C_b)^½). The trace of the root is the nuclear norm
    of A Bᵀ with A, B the centred sets over √(n-1); no root of an indefinite matrix is taken, so no
    shrinkage is needed with fewer samples than dimensions. The distance is still biased upwards
    for few samples: compare only sets of equal sizes.

    Raises DataError: a set has fewer than two rows, or the widths differ.
    """
    a, b = _checked(a, b)
    centred_a, centred_b = _factor(a), _factor(b)
    nuclear = np.linalg.svd(centred_a @ centred_b.T, compute_uv=False).sum()
    shift = np.square(a.mean(0) - b.mean(0)).sum()
    spread = np.square(centred_a).sum() + np.square(centred_b).sum() - 2.0 * nuclear
    return float(max(0.0, shift + spread))


def kernel_distance(a: np.ndarray, b: np.ndarray, bandwidth: float | None = None) -> float:
    """Squared maximum mean discrepancy, unbiased, with a Gaussian kernel; times `KERNEL_SCALE`.

    Kernel audio distance (arXiv 2502.15602). It is unbiased at any number of samples, so it may be
    slightly negative for equal distributions.

    Args:
        a: (N, D), the reference.
        bandwidth: width of the kernel exp(-|x-y|² / (2 bandwidth²)); default: the median distance between
            two rows of the reference.

    Raises DataError: a set has fewer than two rows, or the widths differ.
    """
    a, b = _checked(a, b)
    if bandwidth is None:
        bandwidth = float(np.sqrt(np.median(_square_distances(a, a)[np.triu_indices(len(a), 1)])))
    gamma = 1.0 / (2.0 * max(bandwidth, 1e-6) ** 2)
    same = sum((_kernel_sum(x, x, gamma) - len(x)) / (len(x) * (len(x) - 1)) for x in (a, b))
    return float(KERNEL_SCALE * (same - 2.0 * _kernel_sum(a, b, gamma) / (len(a) * len(b))))


def _kernel_sum(a: np.ndarray, b: np.ndarray, gamma: float) -> float:
    """Sum of the kernel over all pairs, in blocks of constant memory."""
    total = 0.0
    for row in range(0, len(a), BLOCK):
        for column in range(0, len(b), BLOCK):
            squared = _square_distances(a[row : row + BLOCK], b[column : column + BLOCK])
            if a is b and row == column:
                # Rounding would leave a non-zero distance between a row and itself.
                np.fill_diagonal(squared, 0.0)
            total += float(np.exp(-gamma * squared).sum())
    return total


def _checked(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise DataError(f"distance of embeddings {a.shape} and {b.shape}: expected (N, D) and (M, D) with N, M > 1")
    return a.astype(np.float64), b.astype(np.float64)


def _factor(x: np.ndarray) -> np.ndarray:
    """Factor F of at most (D, D) with FᵀF = covariance of the rows of `x`."""
    centred = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    if len(centred) <= centred.shape[1]:
        return centred
    return np.asarray(np.linalg.qr(centred, mode="r"))


def _square_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squared = np.square(a).sum(1)[:, None] + np.square(b).sum(1)[None, :] - 2.0 * a @ b.T
    squared = squared.clip(0.0)
    if a is b:
        np.fill_diagonal(squared, 0.0)
    return squared


def matched_auc(similarity: np.ndarray, own: Sequence[int]) -> float:
    """Probability that a clip is more similar (N, K) to its text than a clip to another text; NaN without others."""
    matched = _matched(similarity, own)
    if matched.all():
        return float("nan")
    wins = mannwhitneyu(similarity[matched], similarity[~matched], method="asymptotic").statistic
    return float(wins / matched.sum() / (~matched).sum())


def retrieval_figures(similarity: np.ndarray, own: Sequence[int]) -> dict[str, float]:
    """AUC of matched against other pairs, top-1 accuracy, and mean cosines of both kinds of pairs."""
    matched = similarity[_matched(similarity, own)]
    others = similarity.shape[1] - 1
    return {
        "auc": matched_auc(similarity, own),
        "accuracy": float((similarity.argmax(1) == np.asarray(own)).mean()),
        "matched_cosine": float(matched.mean()),
        "other_cosine": float((similarity.sum() - matched.sum()) / max(1, len(own) * others)),
    }


def rank_figures(similarity: np.ndarray, own: Sequence[int]) -> dict[str, float]:
    """Recall at 1, 5 and 10 and median rank, of texts given a clip and of clips given a text.

    The rank of a query is that of its best match among all non-matching items. Among equal similarities the
    match ranks last, so a model that gives all pairs the same similarity has no recall.

    Args:
        similarity: (N, K) cosines of clips and distinct texts.
        own: for each clip, the index of its text; each text belongs to at least one clip.

    Returns `audio_to_text_r1`, …, `audio_to_text_median_rank`, and the same for `text_to_audio`.
    """
    matched = _matched(similarity, own)
    figures: dict[str, float] = {}
    for name, values, matches in (("audio_to_text", similarity, matched), ("text_to_audio", similarity.T, matched.T)):
        best = np.where(matches, values, -np.inf).max(axis=1, keepdims=True)
        ranks = 1 + ((values >= best) & ~matches).sum(axis=1)
        figures |= {f"{name}_r{top}": float((ranks <= top).mean()) for top in TOP}
        figures[f"{name}_median_rank"] = float(np.median(ranks))
    return figures


def _matched(similarity: np.ndarray, own: Sequence[int]) -> np.ndarray:
    matched = np.zeros(similarity.shape, dtype=bool)
    matched[np.arange(len(own)), list(own)] = True
    return matched
