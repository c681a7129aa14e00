"""Linear heads on standardised features: logistic regression, and linear discriminant analysis with a ridge."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

Floats = NDArray[np.float64]
NEVER = -1e4
"""Logit of a label that no training clip has."""
_CONSTANT = 1e-4
"""A feature whose deviation is smaller, relative to its mean, is constant."""


@dataclass(frozen=True)
class Linear:
    """An affine map, weight (labels, D) and bias, from features that are standardised by a mean and an inverse (D,)."""

    mean: Floats
    inverse: Floats
    weight: Floats
    bias: Floats
    limit: float = float("inf")

    def logits(self, features: NDArray[np.floating]) -> Floats:
        """(N, labels) for features (N, D)."""
        standard = (np.asarray(features, dtype=np.float64) - self.mean) * self.inverse
        return np.asarray(np.clip(standard, -self.limit, self.limit) @ self.weight.T + self.bias)

    def folded(self) -> tuple[Floats, Floats]:
        """Weights (labels, D) and bias (labels,) for features as they are; only without a limit."""
        weight = self.weight * self.inverse
        return weight, self.bias - weight @ self.mean


def fit_logistic(
    features: NDArray[np.floating], targets: Floats, weights: Floats, inverse_penalty: float, multi_label: bool
) -> Linear:
    """Logistic regression (scikit-learn, L2).

    A label that no clip has, where labels exclude each other, gets logits far below the others; where they do not, a
    label that all clips have, or none, gets a constant logit.

    Args:
        features: (N, D), N ≥ 1, with `targets` (N, labels) 1 where a clip has the label, and `weights` (N,) above 0.
        inverse_penalty: scikit-learn's C, for a sum of weights that equals the number of clips.
        multi_label: whether labels are independent; then each has a regression of its own.
    """
    standard, mean, inverse = _standardised(features, weights)
    made = Linear(mean, inverse, np.zeros((targets.shape[1], standard.shape[1])), np.full(targets.shape[1], NEVER))

    def regression(of: NDArray[np.generic]) -> LogisticRegression:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return LogisticRegression(C=inverse_penalty, max_iter=300).fit(standard, of, sample_weight=weights)

    if multi_label:
        for label, has in enumerate(targets.T > 0):
            if has.all() or not has.any():
                made.bias[label] = -NEVER if has.all() else NEVER
            else:
                fitted = regression(has)
                made.weight[label], made.bias[label] = fitted.coef_[0], fitted.intercept_[0]
        return made
    ids = targets.argmax(axis=1)
    known = np.unique(ids)
    made.bias[known] = 0.0
    if len(known) > 1:
        fitted = regression(ids)
        # scikit-learn has one row for two classes.
        rows = known[-len(fitted.coef_) :]
        made.weight[rows], made.bias[rows] = fitted.coef_, fitted.intercept_
    return made


def fit_discriminant(
    features: NDArray[np.floating],
    targets: Floats,
    weights: Floats,
    ridge: float,
    multi_label: bool,
    scales: Floats,
    limit: float = 4.0,
) -> Linear:
    """Linear discriminant analysis with a ridge.

    Directions in which clips of one class differ from each other, or from their own copies, count little. Labels that
    no clip has are treated as in `fit_logistic`; independent ones have a discriminant each.

    Args:
        features: with targets and weights, as for `fit_logistic`.
        ridge: added to the within-class variance of each direction, for scaled features.
        scales: (D,) factors of the standardised features.
        limit: standardised features are cut off at ± this.
    """
    standard, mean, inverse = _standardised(features, weights)
    share = weights / weights.sum()
    scaled = np.clip(standard, -limit, limit) * scales
    centre = share @ scaled
    scaled -= centre

    def discriminant(classes: Floats) -> tuple[Floats, Floats]:
        means = (classes * share[:, None]).T @ scaled / (share @ classes)[:, None]
        rest = (scaled - classes @ means) * np.sqrt(share)[:, None]
        solved = _solve_ridge(rest, ridge, means)
        return solved, -0.5 * (means * solved).sum(axis=1)

    weight, bias = np.zeros((targets.shape[1], standard.shape[1])), np.full(targets.shape[1], NEVER)
    if multi_label:
        for label, has in enumerate(targets.T > 0):
            if has.all() or not has.any():
                bias[label] = -NEVER if has.all() else NEVER
            else:
                pair, constants = discriminant(np.stack([~has, has], axis=1).astype(np.float64))
                odds = np.log(share[has].sum() / share[~has].sum())
                weight[label], bias[label] = pair[1] - pair[0], constants[1] - constants[0] + odds
    else:
        known = np.unique(targets.argmax(axis=1))
        weight[known], bias[known] = discriminant(np.eye(targets.shape[1])[targets.argmax(axis=1)][:, known])
    bias = np.where(np.abs(bias) < -NEVER, bias - weight @ centre, bias)
    return Linear(mean, inverse, weight * scales, bias, limit)


def _solve_ridge(rows: Floats, ridge: float, wanted: Floats) -> Floats:
    """(C, D) solutions x of (rows' rows + ridge) x = wanted, for rows (N, D) and wanted (C, D)."""
    count, size = rows.shape
    if count < size:
        # The same by the smaller matrix (Woodbury's identity).
        inner = cho_solve(cho_factor(rows @ rows.T + ridge * np.eye(count)), rows @ wanted.T)
        return np.asarray((wanted - inner.T @ rows) / ridge)
    return np.asarray(cho_solve(cho_factor(rows.T @ rows + ridge * np.eye(size)), wanted.T).T)


def _standardised(features: NDArray[np.floating], weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Standardised features, and mean and inverse deviation (D,) of each; inverse 0 for constant ones."""
    rows = np.asarray(features, dtype=np.float64)
    mean = np.average(rows, axis=0, weights=weights)
    deviation = np.sqrt(np.average((rows - mean) ** 2, axis=0, weights=weights))
    varies = deviation > _CONSTANT * (1 + np.abs(mean))
    inverse = np.where(varies, 1 / np.where(varies, deviation, 1), 0.0)
    return (rows - mean) * inverse, mean, inverse
