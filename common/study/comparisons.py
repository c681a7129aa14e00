"""Comparisons of methods: display names of figures, what is reliable, multiple comparisons, mean over datasets."""

from collections.abc import Sequence

import numpy as np

from common.contracts.evaluation import Interval

FIGURES = {"accuracy": "accuracy", "map": "mAP", "macro_f1": "macro-F1"}
"""Display names of the figures, as within a sentence."""

MIN_REPLICATES = 3
"""Fewer trainings cannot tell a gain from chance, whatever the interval."""


def reliable(difference: Interval) -> int:
    """1 where a paired difference lies reliably above 0, -1 where below, else 0."""
    if len(difference.per_seed) < MIN_REPLICATES:
        return 0
    return int(difference.low > 0) - int(difference.high < 0)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, which keeps the family-wise error rate of all comparisons (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = least
    return corrected


def mean_interval(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, and the ends `low` and `high` of Student's t interval (95 %) for the mean of the population of `values`.

    Values are independent differences of scores, so that no end is beyond -1 or 1. The ends are None for a single
    value, which says nothing about the spread.
    """
    from scipy.stats import sem, t

    mean = float(np.mean(values))
    if len(values) < 2:
        return {"mean": mean, "low": None, "high": None}
    half = float(t.ppf(0.975, len(values) - 1) * sem(values))
    return {"mean": mean, "low": max(mean - half, -1.0), "high": min(mean + half, 1.0)}
