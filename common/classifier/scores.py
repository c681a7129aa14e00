"""Figures of predictions, with one label per clip or several."""

import numpy as np
from scipy.special import expit

THRESHOLDS = np.round(expit(np.arange(-80, 81) / 10.0), 6)
"""Candidate thresholds: even steps of the log-odds, since rare labels get small probabilities."""


def calibration_error(stated: np.ndarray, true: np.ndarray, bins: int) -> float:
    """Expected calibration error with equal-width bins of the stated probabilities (arXiv 1706.04599), of any shape."""
    stated, true = stated.ravel(), true.ravel()
    index = np.minimum((stated * bins).astype(np.int64), bins - 1)
    return float(np.abs(np.bincount(index, stated - true, bins)).sum() / len(stated))


def accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Share of equal label ids; both (N,) integers, N ≥ 1."""
    return float(np.mean(truth == predicted))


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean F1 over the labels that occur in either array; both (N,) integers, N ≥ 1."""
    from sklearn.metrics import f1_score

    return float(f1_score(truth, predicted, average="macro", zero_division=0))


def mean_average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Mean average precision over the labels that occur, each against all others: (N,) ids, (N, labels) scores."""
    return multi_label_map(truth[:, None] == np.arange(scores.shape[1]), scores)


def multi_label_macro_f1(truth: np.ndarray, scores: np.ndarray, threshold: float = 0.5) -> float:
    """Mean F1 over the labels that occur in the truth or are predicted, from `threshold` on; both (N, labels)."""
    wanted, found = truth > 0, scores >= threshold
    hits, total = np.sum(wanted & found, axis=0), np.sum(wanted, axis=0) + np.sum(found, axis=0)
    occurs = total > 0
    return float(np.mean(2 * hits[occurs] / total[occurs])) if occurs.any() else 0.0


def choose_threshold(truth: np.ndarray, scores: np.ndarray) -> float:
    """Probability from which a label counts as heard: the best macro-F1, among equals the nearest to 0.5.

    All labels of a model share one threshold; a threshold per label would be fitted to the few validation clips of a
    rare label. Both are (N, labels), of validation clips, never of test clips.
    """
    found = [(multi_label_macro_f1(truth, scores, value), -abs(value - 0.5)) for value in THRESHOLDS]
    return float(THRESHOLDS[max(range(len(found)), key=lambda place: found[place])])


def multi_label_map(truth: np.ndarray, scores: np.ndarray) -> float:
    """Mean average precision over the labels that occur in the truth, at least one; both (N, labels)."""
    from sklearn.metrics import average_precision_score

    occurs = np.flatnonzero(truth.any(axis=0))
    return float(np.mean([average_precision_score(truth[:, label], scores[:, label]) for label in occurs]))
