"""Scores with confidence intervals (95 % by default) from a paired bootstrap over test clips.

All scores of an evaluation share one set of resampling weights; two methods are therefore always
compared on the same resampled clips. `intervals` adds the variance between replicates.
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from common.classifier.scores import calibration_error, macro_f1
from common.contracts.evaluation import Calibration, Figure, Gain, Interval, Paired, Scores
from common.runtime.seeding import numpy_generator
from components.evaluate_classifier.intervals import Floats, interval, paired

Flags = NDArray[np.bool_]
Key = tuple[str, int]
"""A trained model: its method and replicate."""


@dataclass(frozen=True)
class Resampling:
    """Bootstrap draws over the test set; `weights` (B, N) is how often each of N test clips occurs in each draw."""

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
    """(B, S) accuracy on each draw; `correct` (S, N) is 1 where replicate s is right on clip n."""
    return (resampling.weights @ correct.T) / resampling.weights.sum(axis=1, keepdims=True)


def macro_f1_draws(truth: Flags, heard: Flags, weights: Floats) -> Floats:
    """(B,) macro-F1 on each draw, over the labels that are true or heard in the whole test set.

    A label that is absent from a draw counts 0. `truth` and `heard`, a model's decisions, are (N, K), `weights` (B, N).
    """
    occurs = truth.any(axis=0) | heard.any(axis=0)
    hits = weights @ (truth & heard)[:, occurs].astype(np.float64)
    total = weights @ (truth[:, occurs].astype(np.float64) + heard[:, occurs])
    means: Floats = np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0).mean(axis=1)
    return means


class OfModel(NamedTuple):
    """Figures of one model: on the test set, and (B, …) on each draw; those of labels where test clips have them.

    A draw without clips of a label has NaN for it.
    """

    figure: float
    macro_f1: float
    by_label: Floats
    draws: Floats
    f1_draws: Floats
    label_draws: Floats


class Scorer(ABC):
    """Figures of models from their predictions on the test clips; those of a model are computed once.

    Args:
        truth: (N,) label ids, or (N, K) whether a clip has a label.
        answers: (N, K) probabilities by model.
        bins: of the calibration error.
    """

    figure: Figure

    def __init__(self, truth: NDArray[Any], answers: Mapping[Key, Floats], draws: Resampling, bins: int) -> None:
        self._truth, self._answers, self._draws, self._bins = truth, answers, draws, bins
        self._known: dict[Key, OfModel] = {}

    @abstractmethod
    def _compute(self, model: Key) -> OfModel:
        """Figures of a model."""

    @abstractmethod
    def _stated(self, model: Key) -> tuple[Floats, Flags]:
        """Stated probabilities, and whether what they are stated of is true."""

    @abstractmethod
    def _completed(self, scores: Scores, models: Sequence[Key]) -> Scores:
        """The scores with those that only such labels have."""

    @property
    @abstractmethod
    def _labels(self) -> NDArray[np.int64]:
        """Ids of the labels that test clips have, sorted."""

    def score(self, models: Sequence[Key]) -> Scores:
        """All scores of one method; `models` are its replicates."""
        found = [self._of(model) for model in models]
        errors = [calibration_error(*self._stated(model), self._bins) for model in models]
        scores = Scores(
            **{self.figure: self.headline(models)},
            macro_f1=self._f1(found),
            ece=Calibration(mean=float(np.mean(errors)), per_seed=errors),
            confusion=None,
            recall=None,
        )
        return self._completed(scores, models)

    def headline(self, models: Sequence[Key]) -> Interval:
        """`figure` alone of one method; `models` are its replicates."""
        figures, draws = zip(*map(self._headline, models), strict=True)
        return interval(np.stack(draws, axis=1), np.array(figures), self._draws.confidence)

    def difference(self, first: Sequence[Key], second: Sequence[Key]) -> Paired:
        """Paired difference of `figure` and of macro-F1, first minus second, on the same clips and equal replicates."""
        found = self._gains(first, second)
        draws, figures = np.stack([one.draws for one in found], axis=1), np.array([one.figure for one in found])
        return paired(draws, figures, self._draws.confidence, self._f1(found, -1.0))

    def gains(self, first: Sequence[Key], second: Sequence[Key], labels: Sequence[str]) -> list[Gain]:
        """Paired difference per label with test clips, sorted by label id; arguments as of `difference`."""
        before, after = (np.stack([self._of(model).by_label for model in models]) for models in (second, first))
        draws = np.stack([one.label_draws for one in self._gains(first, second)], axis=1)
        rows = []
        for place, label in enumerate(self._labels.tolist()):
            own = draws[:, :, place]
            kept = ~np.isnan(own).any(axis=1)
            rows.append(
                Gain(
                    label=labels[label],
                    label_id=label,
                    clips=int((self._truth[:, label] if self._truth.ndim > 1 else self._truth == label).sum()),
                    first=float(after[:, place].mean()),
                    second=float(before[:, place].mean()),
                    **dict(interval(own[kept], after[:, place] - before[:, place], self._draws.confidence, -1.0)),
                )
            )
        return rows

    def _of(self, model: Key) -> OfModel:
        if model not in self._known:
            self._known[model] = self._compute(model)
        return self._known[model]

    def _headline(self, model: Key) -> tuple[float, Floats]:
        """`figure` and its draws."""
        one = self._of(model)
        return one.figure, one.draws

    def _gains(self, first: Sequence[Key], second: Sequence[Key]) -> list[OfModel]:
        pairs = zip(map(self._of, first), map(self._of, second), strict=True)
        return [OfModel(*map(operator.sub, a, b)) for a, b in pairs]

    def _f1(self, found: Sequence[OfModel], least: float = 0.0) -> Interval:
        draws, scores = np.stack([one.f1_draws for one in found], axis=1), np.array([one.macro_f1 for one in found])
        return interval(draws, scores, self._draws.confidence, least)


class OneLabel(Scorer):
    """Figures of models on clips with one label each."""

    figure: Figure = "accuracy"

    @property
    def _labels(self) -> NDArray[np.int64]:
        return np.unique(self._truth)

    def _headline(self, model: Key) -> tuple[float, Floats]:
        right = (self._answers[model].argmax(axis=1) == self._truth).astype(np.float64)
        return float(right.mean()), accuracy_draws(right[None], self._draws)[:, 0]

    def _compute(self, model: Key) -> OfModel:
        answers, weights = self._answers[model], self._draws.weights
        predicted, ids = answers.argmax(axis=1), np.arange(answers.shape[1])
        truth, heard = self._truth[:, None] == ids, predicted[:, None] == ids
        right = (predicted == self._truth).astype(np.float64)
        of_label = truth[:, self._labels].astype(np.float64)
        clips, hits = weights @ of_label, weights @ (of_label * right[:, None])
        figure, draws = self._headline(model)
        return OfModel(
            figure,
            macro_f1(self._truth, predicted),
            (of_label * right[:, None]).sum(axis=0) / of_label.sum(axis=0),
            draws,
            macro_f1_draws(truth, heard, weights),
            np.divide(hits, clips, out=np.full_like(clips, np.nan), where=clips > 0),
        )

    def _stated(self, model: Key) -> tuple[Floats, Flags]:
        answers = self._answers[model]
        return answers.max(axis=1), answers.argmax(axis=1) == self._truth

    def _completed(self, scores: Scores, models: Sequence[Key]) -> Scores:
        labels = np.arange(self._answers[models[0]].shape[1])
        predicted = [self._answers[model].argmax(axis=1) for model in models]
        confusion = sum(confusion_matrix(self._truth, row, labels=labels) for row in predicted)
        totals = confusion.sum(axis=1)
        recall = [float(confusion[k, k] / totals[k]) if totals[k] else None for k in labels]
        return scores.model_copy(update={"confusion": confusion.tolist(), "recall": recall})
