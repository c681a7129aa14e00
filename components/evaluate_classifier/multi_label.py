"""Scores for clips with several labels: mean average precision and macro-F1, with their intervals."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.metrics import average_precision_score

from common.classifier.scores import multi_label_macro_f1
from common.contracts.evaluation import Figure, Scores
from components.evaluate_classifier.intervals import Floats
from components.evaluate_classifier.statistics import Flags, Key, OfModel, Resampling, Scorer, macro_f1_draws

MAX_WORK = 4 * 10**9
"""Limit of draws × clips × labels; some seconds per model."""
MIN_DRAWS = 1000
_CHUNK = 64


def affordable(resamples: int, clips: int, labels: int) -> int:
    """Number of bootstrap draws: `resamples`, reduced only if draws × clips × labels exceed `MAX_WORK`."""
    return min(resamples, max(MIN_DRAWS, MAX_WORK // max(1, clips * labels)))


def average_precision_draws(truth: Flags, scores: Floats, weights: Floats) -> Floats:
    """Average precision per label and draw, for all draws at once; equals scikit-learn's with the draw's weights.

    Precision counts only where recall rises; clips are therefore summed between the scores of successive positives.

    Truth and scores are (N, K), `weights` (B, N) the number of times each clip occurs in each draw.

    Returns (B, K); NaN where a draw has no clip of the label.
    """
    sums = {int(label): _level_sums(truth[:, label], scores[:, label]) for label in np.flatnonzero(truth.any(axis=0))}
    found = np.full((len(weights), truth.shape[1]), np.nan)
    for start in range(0, len(weights), _CHUNK):
        # Counts below 2^24 are exact in single precision, and a chunk fits the processor's cache.
        drawn = np.ascontiguousarray(weights[start : start + _CHUNK].T, dtype=np.float32)
        for label, (everything, positives) in sums.items():
            own = (positives @ drawn).astype(np.float64)
            hits, seen = own.cumsum(axis=0), (everything @ drawn).astype(np.float64).cumsum(axis=0)
            precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
            total = hits[-1]
            part = found[start : start + _CHUNK, label]
            np.divide((own * precision).sum(axis=0), total, out=part, where=total > 0)
    return found


def _level_sums(wanted: Flags, scores: Floats) -> tuple[csr_array, csr_array]:
    """Matrices (levels, N) that sum clips, and positives, between each score of a positive and the next higher one."""
    levels = np.unique(scores[wanted])[::-1]
    level = np.searchsorted(-levels, -scores, side="left")

    def sums(chosen: Flags) -> csr_array:
        places = np.flatnonzero(chosen)
        return csr_array((np.ones(len(places), np.float32), (level[places], places)), shape=(len(levels), len(scores)))

    return sums(level < len(levels)), sums(wanted)


class SeveralLabels(Scorer):
    """Figures of models on clips with several labels, from each model's threshold."""

    figure: Figure = "map"

    def __init__(
        self, truth: Flags, answers: Mapping[Key, Floats], thresholds: Mapping[Key, float], draws: Resampling, bins: int
    ) -> None:
        super().__init__(truth, answers, draws, bins)
        self._thresholds = thresholds

    @property
    def _labels(self) -> NDArray[np.int64]:
        return np.flatnonzero(self._truth.any(axis=0))

    def _compute(self, model: Key) -> OfModel:
        truth, answers, threshold = self._truth, self._answers[model], self._thresholds[model]
        precisions = np.array([average_precision_score(truth[:, label], answers[:, label]) for label in self._labels])
        draws = average_precision_draws(truth, answers, self._draws.weights)[:, self._labels]
        return OfModel(
            float(precisions.mean()),
            multi_label_macro_f1(truth, answers, threshold),
            precisions,
            np.nanmean(draws, axis=1),
            macro_f1_draws(truth, answers >= threshold, self._draws.weights),
            draws,
        )

    def _stated(self, model: Key) -> tuple[Floats, Flags]:
        # Over all pairs of a clip and a label.
        return self._answers[model], self._truth

    def _completed(self, scores: Scores, models: Sequence[Key]) -> Scores:
        precisions = np.full(self._truth.shape[1], None, dtype=object)
        precisions[self._labels] = np.mean([self._of(model).by_label for model in models], axis=0)
        thresholds = [self._thresholds[model] for model in models]
        return scores.model_copy(update={"average_precision": precisions.tolist(), "thresholds": thresholds})
