"""Intervals and p-values of a mean over replicates: the bootstrap for test clips, Student's t for replicates.

A score of S replicates on N test clips varies for two reasons. Other clips would be easier or harder, which draws of
the test set show. Other trainings would come out otherwise, which only S values show: a bootstrap of three values ends
at their extremes, Student's t does not. Their sum is the Behrens-Fisher problem (Fisher 1935, Annals of Eugenics 6).

Replicates also differ because each is right on other clips. The draws hold that already; where replicates spread no
more than that, the draws alone give the interval.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import gammaincinv, stdtr, stdtrit

from common.contracts.evaluation import Interval, Paired

Floats = NDArray[np.float64]

_QUIET = 0.5
_QUIET_OF_TWO = 0.38
"""Quantile of the spread that clips alone give, up to which replicates count as alike. So chosen, 95 % intervals
cover 94 to 98 % of cases for three replicates and more, 93 to 99 % for two, whatever part of it they carry."""


@dataclass(frozen=True)
class _Mean:
    """Distribution of a mean over replicates: draws, each blurred by Student's t with `scale` where that is above 0."""

    draws: Floats
    scale: float
    freedom: int

    def quantile(self, share: float) -> float:
        """Value below which lies `share` of the distribution."""
        if self.scale == 0:
            return float(np.quantile(self.draws, share))
        offset = self.scale * float(stdtrit(self.freedom, share))
        low, high = float(self.draws.min()) + offset, float(self.draws.max()) + offset
        return low if low == high else float(brentq(lambda value: self._below(value) - share, low, high))

    def p(self) -> float:
        """Twice the smaller share on one side of 0.

        One draw is added to each side, so that a finite number never gives 0 (Davison and Hinkley 1997, section 4.2).
        """
        count = len(self.draws)
        if self.scale == 0:
            side = float(min((self.draws <= 0).sum(), (self.draws >= 0).sum()))
        else:
            below = self._below(0.0)
            side = count * min(below, 1 - below)
        return float(min(1.0, 2 * (side + 1) / (count + 1)))

    def _below(self, value: float) -> float:
        return float(stdtr(self.freedom, (value - self.draws) / self.scale).mean())


def _mean(draws: Floats, per_replicate: Floats) -> _Mean:
    centre, count = draws.mean(axis=1), len(per_replicate)
    freedom = count - 1
    if freedom == 0:
        return _Mean(centre, 0.0, freedom)
    spread = float(per_replicate.var(ddof=1))
    # Part of the spread that comes from the clips on which replicates differ; `centre` has its share of it.
    of_clips = float((draws - centre[:, None]).var(axis=0).sum()) / freedom
    # A quantile of the chi-squared distribution, divided by its degrees of freedom.
    quiet = 2 * float(gammaincinv(freedom / 2, _QUIET if count > 2 else _QUIET_OF_TWO)) / freedom
    if spread <= quiet * of_clips:
        return _Mean(centre, 0.0, freedom)
    variance = float(centre.var())
    shared = max(variance - of_clips / count, 0.0)
    middle = centre.mean()
    if variance > 0:
        centre = middle + np.sqrt(shared / variance) * (centre - middle)
    return _Mean(centre, float(np.sqrt(spread / count)), freedom)


def interval(draws: Floats, per_replicate: Floats, confidence: float, least: float = 0.0) -> Interval:
    """Mean over replicates with its interval, from scores (B, S) on each draw of the test set and (S,) on all of it.

    No score is below `least` (differences: -1) or above 1, and so is no end of the interval.
    """
    return _interval(_mean(draws, per_replicate), per_replicate, confidence, least)


def paired(gain_draws: Floats, per_replicate: Floats, confidence: float, macro_f1: Interval) -> Paired:
    """Paired difference; its `p` falls below 1 - confidence where the interval excludes 0.

    Args:
        gain_draws: (B, S) difference of each replicate on each draw.
        per_replicate: (S,) difference of each replicate.
    """
    mean = _mean(gain_draws, per_replicate)
    return Paired(
        **dict(_interval(mean, per_replicate, confidence, -1.0)),
        p=mean.p(),
        win_rate=float(np.mean(np.sign(per_replicate) / 2 + 0.5)),
        macro_f1=macro_f1,
    )


def _interval(mean: _Mean, per_replicate: Floats, confidence: float, least: float) -> Interval:
    tail = (1 - confidence) / 2
    low, high = max(mean.quantile(tail), least), min(mean.quantile(1 - tail), 1.0)
    return Interval(mean=float(per_replicate.mean()), low=low, high=high, per_seed=per_replicate.tolist())
