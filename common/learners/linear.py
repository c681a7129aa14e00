"""Logistic regression on standardised features; the scaler is folded into the weights."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

Floats = NDArray[np.float64]
_LARGEST = 1e4


@dataclass(frozen=True)
class Linear:
    """An affine map from features to logits.

    Attributes:
        weight: (labels, D).
        bias: (labels,).
    """

    weight: Floats
    bias: Floats

    def logits(self, features: NDArray[np.floating]) -> Floats:
        """(N, labels) for features (N, D)."""
        return np.asarray(features, dtype=np.float64) @ self.weight.T + self.bias


def fit_linear(
    features: NDArray[np.floating], targets: Floats, weights: Floats, inverse_penalty: float, multi_label: bool
) -> Linear:
    """Fit a logistic regression (scikit-learn, L2) on features standardised with the same weights.

    A feature that is constant gets no weight. A label that no clip has, where labels exclude each other, gets logits
    far below the others; where they do not, a label that all clips have, or none, gets a constant logit.

    Args:
        features: (N, D), N ≥ 1.
        targets: (N, labels) 1 where a clip has the label.
        weights: (N,) weight of each clip's loss, at least 0 and somewhere above.
        inverse_penalty: scikit-learn's C, for a sum of weights that equals the number of clips with weight.
        multi_label: whether labels are independent; then each has a regression of its own.
    """
    used = weights > 0
    features, targets, weights = np.asarray(features[used], dtype=np.float64), targets[used], weights[used]
    mean = np.average(features, axis=0, weights=weights)
    deviation = np.sqrt(np.average((features - mean) ** 2, axis=0, weights=weights))
    scale = np.where(deviation > 1e-9 * (1 + np.abs(mean)), deviation, np.inf)
    standard = (features - mean) / scale
    labels = targets.shape[1]
    weight, bias = np.zeros((labels, features.shape[1])), np.full(labels, -_LARGEST)
    if multi_label:
        for label in range(labels):
            has = targets[:, label] > 0
            if has.all() or not has.any():
                bias[label] = _LARGEST if has.all() else -_LARGEST
            else:
                made = _regression(standard, has, weights, inverse_penalty)
                weight[label], bias[label] = made.coef_[0], made.intercept_[0]
    else:
        ids = targets.argmax(axis=1)
        known = np.unique(ids)
        if len(known) == 1:
            bias[known] = 0.0
        else:
            made = _regression(standard, ids, weights, inverse_penalty)
            if len(known) == 2:
                # scikit-learn has one row for two classes.
                weight[known[1]], bias[known[1]], bias[known[0]] = made.coef_[0], made.intercept_[0], 0.0
            else:
                weight[known], bias[known] = made.coef_, made.intercept_
    weight = weight / scale
    return Linear(weight, bias - weight @ mean)


def _regression(
    features: Floats, labels: NDArray[np.generic], weights: Floats, inverse_penalty: float
) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=inverse_penalty, max_iter=300).fit(features, labels, sample_weight=weights)
