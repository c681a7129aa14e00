"""Scores for clips with several labels: mean average precision and macro-F1, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit
from sklearn.metrics import average_precision_score

from common.classifier.scores import calibration_error, multi_label_macro_f1
from common.contracts.evaluation import Calibration, Figure, Gain, Paired, Scores
from components.evaluate_classifier.intervals import Floats, interval, paired
from components.evaluate_classifier.statistics import Key, Resampling

Flags = NDArray[np.bool_]

THRESHOLDS: Floats = np.round(expit(np.arange(-80, 81) / 10.0), 6)
"""Candidate thresholds: even steps of the log-odds, since rare labels get small probabilities."""
MAX_WORK = 4 * 10**9
"""Limit of draws × clips × labels; some seconds per model."""
MIN_DRAWS = 1000
_CHUNK = 64


def affordable(resamples: int, clips: int, labels: int) -> int:
    """Number of bootstrap draws: `resamples`, reduced only if draws × clips × labels exceed `MAX_WORK`."""
    return min(resamples, max(MIN_DRAWS, MAX_WORK // max(1, clips * labels)))


def choose_threshold(truth: Flags, probabilities: Floats) -> float:
    """Probability from which a label counts as heard: the best macro-F1, among equals the nearest to 0.5.

    All labels of a model share one threshold; a threshold per label would be fitted to the few validation clips of a
    rare label.

    Args:
        truth: (N, K) of validation clips, never of test clips.
        probabilities: (N, K).
    """
    found = [(multi_label_macro_f1(truth, probabilities, value), -abs(value - 0.5)) for value in THRESHOLDS]
    return float(THRESHOLDS[max(range(len(found)), key=lambda place: found[place])])


def average_precision_draws(truth: Flags, scores: Floats, weights: Floats) -> Floats:
    """Average precision per label and draw, for all draws at once; equals scikit-learn's with the draw's weights.

    Precision counts only where recall rises; clips are therefore summed between the scores of successive positives.

    Args:
        truth: (N, K).
        scores: (N, K).
        weights: (B, N) number of times each clip occurs in each draw.

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


def macro_f1_draws(truth: Flags, heard: Flags, weights: Floats) -> Floats:
    """(B,) macro-F1 on each draw, over the labels that are true or heard in the whole test set.

    Args:
        truth: (N, K).
        heard: (N, K) decisions of a model.
        weights: (B, N).
    """
    occurs = truth.any(axis=0) | heard.any(axis=0)
    hits = weights @ (truth & heard)[:, occurs].astype(np.float64)
    total = weights @ (truth[:, occurs].astype(np.float64) + heard[:, occurs])
    means: Floats = np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0).mean(axis=1)
    return means


class _OfModel(NamedTuple):
    """Figures of one model: on the test set (labels with test clips only), and on each draw."""

    precisions: Floats
    macro_f1: float
    precision_draws: Floats
    f1_draws: Floats


class SeveralLabels:
    """Figures of models on clips with several labels; the draws of a model are computed once and cached.

    Args:
        truth: (N, K) whether a clip has a label.
        answers: (N, K) probabilities by model.
    """

    figure: Figure = "map"

    def __init__(
        self, truth: Flags, answers: Mapping[Key, Floats], thresholds: Mapping[Key, float], draws: Resampling, bins: int
    ) -> None:
        self._truth, self._answers, self._thresholds = truth, answers, thresholds
        self._draws, self._bins = draws, bins
        self._labels = np.flatnonzero(truth.any(axis=0))
        self._known: dict[Key, _OfModel] = {}

    def score(self, models: Sequence[Key]) -> Scores:
        """All scores of one method; `models` are its replicates."""
        found = [self._of(model) for model in models]
        # Over all pairs of a clip and a label.
        errors = [calibration_error(self._answers[model], self._truth, self._bins) for model in models]
        by_label = dict(zip(self._labels.tolist(), np.mean([one.precisions for one in found], axis=0), strict=True))
        maps, map_draws = _map(found)
        f1_scores, f1_draws = _f1(found)
        return Scores(
            map=interval(map_draws, float(maps.mean()), maps, self._draws.confidence),
            macro_f1=interval(f1_draws, float(f1_scores.mean()), f1_scores, self._draws.confidence),
            ece=Calibration(mean=float(np.mean(errors)), per_seed=errors),
            average_precision=[
                float(by_label[label]) if label in by_label else None for label in range(self._truth.shape[1])
            ],
            thresholds=[self._thresholds[model] for model in models],
            confusion=None,
            recall=None,
        )

    def difference(self, first: Sequence[Key], second: Sequence[Key]) -> Paired:
        """Paired difference of mean average precision, first minus second.

        Args:
            second: equal replicates of another method, in the same order.
        """
        a, b = ([self._of(model) for model in models] for models in (first, second))
        (maps, map_draws), (f1_scores, f1_draws) = (
            tuple(x - y for x, y in zip(figures(a), figures(b), strict=True)) for figures in (_map, _f1)
        )
        f1 = interval(f1_draws, float(f1_scores.mean()), f1_scores, self._draws.confidence)
        return paired(map_draws, maps, self._draws.confidence, f1)

    def gains(self, first: Sequence[Key], second: Sequence[Key], labels: Sequence[str]) -> list[Gain]:
        """Paired difference of average precision per label with test clips, sorted by label id."""
        a, b = ([self._of(model) for model in models] for models in (first, second))
        before, after = (np.stack([one.precisions for one in found]) for found in (b, a))
        rows = []
        for place, label in enumerate(self._labels.tolist()):
            gain = np.stack(
                [x.precision_draws[:, label] - y.precision_draws[:, label] for x, y in zip(a, b, strict=True)], axis=1
            )
            # Draws without clips of the label are left out.
            kept = ~np.isnan(gain).any(axis=1)
            per_replicate = after[:, place] - before[:, place]
            rows.append(
                Gain(
                    label=labels[label],
                    label_id=label,
                    clips=int(self._truth[:, label].sum()),
                    first=float(after[:, place].mean()),
                    second=float(before[:, place].mean()),
                    **dict(interval(gain[kept], float(per_replicate.mean()), per_replicate, self._draws.confidence)),
                )
            )
        return rows

    def _of(self, model: Key) -> _OfModel:
        if model not in self._known:
            truth, answers, threshold = self._truth, self._answers[model], self._thresholds[model]
            self._known[model] = _OfModel(
                np.array([average_precision_score(truth[:, label], answers[:, label]) for label in self._labels]),
                multi_label_macro_f1(truth, answers, threshold),
                average_precision_draws(truth, answers, self._draws.weights),
                macro_f1_draws(truth, answers >= threshold, self._draws.weights),
            )
        return self._known[model]


def _map(models: Sequence[_OfModel]) -> tuple[Floats, Floats]:
    """Mean average precision: (S,) on all clips, (B, S) on each draw, over the labels present in the draw."""
    draws = np.stack([np.nanmean(one.precision_draws, axis=1) for one in models], axis=1)
    return np.array([one.precisions.mean() for one in models]), draws


def _f1(models: Sequence[_OfModel]) -> tuple[Floats, Floats]:
    """Macro-F1: (S,) on all clips, (B, S) on each draw."""
    return np.array([one.macro_f1 for one in models]), np.stack([one.f1_draws for one in models], axis=1)
