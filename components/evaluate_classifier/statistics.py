"""Scores with confidence intervals (95 % by default) from a paired bootstrap over test clips.

All scores of an evaluation share one set of resampling weights; two methods are therefore always
compared on the same resampled clips. `intervals` adds the variance between replicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from common.classifier.scores import calibration_error, macro_f1
from common.contracts.evaluation import Calibration, Gain, Paired, Scores
from common.runtime.seeding import numpy_generator
from components.evaluate_classifier.intervals import Floats, interval, paired

Ints = NDArray[np.int64]
Key = tuple[str, int]
"""A trained model: its method and replicate."""


@dataclass(frozen=True)
class Resampling:
    """Bootstrap draws over the test set.

    Attributes:
        weights: (B, N) number of times each of N test clips occurs in each of B draws.
    """

    weights: Floats
    unit: Literal["clips", "groups"]
    confidence: float


def resampling(
    groups: list[str | None], resamples: int, seed: int, confidence: float = 0.95, min_groups: int = 5
) -> Resampling:
    """Draw test clips with replacement: whole groups if there are at least `min_groups`, else single clips."""
    named = {group for group in groups if group is not None}
    grouped = len(named) >= min_groups
    units = [group if grouped and group is not None else f"\0clip {index}" for index, group in enumerate(groups)]
    order = {unit: index for index, unit in enumerate(dict.fromkeys(units))}
    count = len(order)
    generator = numpy_generator(seed, "test clips")
    drawn = generator.multinomial(count, np.full(count, 1 / count), size=resamples)
    weights = drawn[:, [order[unit] for unit in units]].astype(np.float64)
    return Resampling(weights, "groups" if grouped else "clips", confidence)


def accuracy_draws(correct: Floats, resampling: Resampling) -> Floats:
    """(B, S) accuracy on each draw.

    Args:
        correct: (S, N) 1 where replicate s is right on clip n, or the difference of two such arrays.
    """
    return (resampling.weights @ correct.T) / resampling.weights.sum(axis=1, keepdims=True)


def macro_f1_draws(truth: Ints, predicted: Ints, resampling: Resampling) -> Floats:
    """(B, S) macro-F1 on each draw, over the classes that are true or predicted in the whole test set.

    A class that is absent from a draw counts 0.

    Args:
        truth: (N,) label ids.
        predicted: (S, N) label ids.
    """
    columns = []
    for row in predicted:
        classes = np.union1d(truth, row)
        is_true = (truth[:, None] == classes).astype(np.float64)
        is_predicted = (row[:, None] == classes).astype(np.float64)
        hits = resampling.weights @ (is_true * is_predicted)
        total = resampling.weights @ (is_true + is_predicted)
        columns.append(np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0).mean(axis=1))
    return np.stack(columns, axis=1)


def score(probabilities: Floats, truth: Ints, bins: int, resampling: Resampling) -> Scores:
    """All scores of one method.

    Args:
        probabilities: (S, N, K).
        truth: (N,) label ids.
    """
    labels = np.arange(probabilities.shape[2])
    predicted = probabilities.argmax(axis=2)
    correct = (predicted == truth).astype(np.float64)
    f1_scores = np.array([macro_f1(truth, row) for row in predicted])
    errors = [calibration_error(row.max(axis=1), row.argmax(axis=1) == truth, bins) for row in probabilities]
    confusion = sum(confusion_matrix(truth, row, labels=labels) for row in predicted)
    totals = confusion.sum(axis=1)
    recall = [float(confusion[k, k] / totals[k]) if totals[k] else None for k in labels]
    per_replicate = correct.mean(axis=1)
    return Scores(
        accuracy=interval(
            accuracy_draws(correct, resampling), float(per_replicate.mean()), per_replicate, resampling.confidence
        ),
        macro_f1=interval(
            macro_f1_draws(truth, predicted, resampling), float(f1_scores.mean()), f1_scores, resampling.confidence
        ),
        ece=Calibration(mean=float(np.mean(errors)), per_seed=errors),
        confusion=confusion.tolist(),
        recall=recall,
    )


def difference(truth: Ints, first: Ints, second: Ints, resampling: Resampling) -> Paired:
    """Paired difference of accuracy, first minus second, on the same clips and replicates.

    Args:
        truth: (N,) label ids.
        first: (S, N) predictions.
        second: (S, N) predictions of the same replicates, in the same order.
    """
    gain = (first == truth).astype(np.float64) - (second == truth).astype(np.float64)
    f1_per_replicate = np.array([macro_f1(truth, a) - macro_f1(truth, b) for a, b in zip(first, second, strict=True)])
    f1_draws = macro_f1_draws(truth, first, resampling) - macro_f1_draws(truth, second, resampling)
    f1 = interval(f1_draws, float(f1_per_replicate.mean()), f1_per_replicate, resampling.confidence)
    return paired(accuracy_draws(gain, resampling), gain.mean(axis=1), resampling.confidence, f1)


def recall_gains(truth: Ints, first: Ints, second: Ints, resampling: Resampling, labels: Sequence[str]) -> list[Gain]:
    """Paired difference of recall, first minus second, of each class with test clips, sorted by label id."""
    rows = []
    for label_id in np.unique(truth):
        inside = truth == label_id
        gain = (first == truth).astype(np.float64)[:, inside] - (second == truth).astype(np.float64)[:, inside]
        weights = resampling.weights[:, inside]
        # Draws without clips of the class are left out.
        kept = weights.sum(axis=1) > 0
        draws = (weights[kept] @ gain.T) / weights[kept].sum(axis=1, keepdims=True)
        per_replicate = gain.mean(axis=1)
        rows.append(
            Gain(
                label=labels[label_id],
                label_id=int(label_id),
                clips=int(inside.sum()),
                first=float((first[:, inside] == label_id).mean()),
                second=float((second[:, inside] == label_id).mean()),
                **dict(interval(draws, float(per_replicate.mean()), per_replicate, resampling.confidence)),
            )
        )
    return rows
