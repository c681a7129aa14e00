"""Features of the learner `stats`: what a clip sounds like, whatever its level, noise floor and silence around it.

The groups and their weights were found by measurement on spoken digits, foley and environmental sounds; each group has
the same share of the distance between two clips before its weight, so that large groups do not drown small ones.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor, nn

from common.audio.mel import FRAME_LENGTH, PeakMelPower

SAMPLE_RATE_HZ = 16000
_HOP, _FFT, _BANDS = 160, 1024, 64
_FLOOR_DB = -60.0
"""Energy further below the clip's loudest band is not heard: there lie noise floors, codecs and digital silence."""
_ACTIVE_DB = -40.0
"""A clip begins and ends with its first and last frame above this level, relative to its loudest frame."""
_FRAMES = 8
"""A clip has at least so many frames."""
SHORTEST = FRAME_LENGTH + (_FRAMES - 1) * _HOP
"""Samples of the shortest clip; shorter ones are padded with zeros."""
_LAG = 4
_TRANSFORM = 1024
_MODULATION = (1, 3, 6, 12, 24, 48, 96, 192, 384)
"""Edges of the modulation bands in bins of a transform of 1,024 frames: 0.1 to 37.5 Hz."""


class Group(NamedTuple):
    """A kind of feature: its number of values and its weight."""

    size: int
    weight: float


GROUPS: dict[str, Group] = {
    "deviation": Group(_BANDS, 0.5),
    "thirds": Group(3 * _BANDS, 2.0),
    "change": Group(3 * _BANDS, 1.0),
    "modulation_of_level": Group(8, 1.0),
    "modulation_of_bands": Group(16 * 8, 1.0),
    "modulation_of_cepstra": Group(8 * 8, 1.0),
    "envelope": Group(17, 1.0),
    "shape": Group(14, 1.0),
    "correlation": Group(28, 0.5),
    "median": Group(_BANDS, 1.0),
    "peaks": Group(_BANDS, 1.0),
}
SCALES = np.concatenate(
    [
        np.full(group.size, math.sqrt(group.weight / group.size / sum(other.weight for other in GROUPS.values())))
        for group in GROUPS.values()
    ]
)
"""(D,) factor of each standardised feature."""


class Statistics(nn.Module):
    """Features (D,) of a mono waveform (T,) at `SAMPLE_RATE_HZ`, T ≥ `SHORTEST`; D = the sum of the groups' sizes."""

    sample_rate_hz = SAMPLE_RATE_HZ
    shortest = SHORTEST
    _cosine: Tensor
    _sine: Tensor
    _bins: Tensor
    _cepstra: Tensor
    _ramp: Tensor
    _pairs: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.mel = PeakMelPower(SAMPLE_RATE_HZ, _BANDS, _FFT, _HOP)
        turns = torch.arange(_TRANSFORM, dtype=torch.float64) * (2 * math.pi / _TRANSFORM)
        cepstra = dct(np.eye(_BANDS), norm="ortho")[:, :8]
        ramp = torch.linspace(0, 1, _BANDS)
        first, second = np.triu_indices(8, 1)
        for name, values in {
            "_cosine": turns.cos().float(),
            "_sine": turns.sin().float(),
            "_bins": torch.arange(_MODULATION[0], _MODULATION[-1])[:, None],
            "_cepstra": torch.from_numpy(cepstra).float(),
            "_ramp": ramp,
            "_pairs": torch.from_numpy(first * 8 + second),
        }.items():
            self.register_buffer(name, values, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """(D,), finite for any finite waveform."""
        power = self.mel(waveform)
        level = _decibel(power.sum(dim=1)).clamp_min(_FLOOR_DB)
        heard = _span(level > _ACTIVE_DB)
        power, level = power.index_select(0, heard), level.index_select(0, heard)
        bands = _decibel(power).clamp_min(_FLOOR_DB)
        change = bands[_LAG:] - bands[:-_LAG]
        modulation = self._modulation(torch.cat([level[:, None], _pooled(bands, 16), bands @ self._cepstra], dim=1))
        median, peaks = _quantiles(bands, 0.5, 0.98)
        made = {
            "deviation": [_deviation(bands)],
            "thirds": _thirds(bands),
            "change": [change.abs().mean(dim=0), change.amax(dim=0), change.amin(dim=0)],
            "modulation_of_level": [modulation[:, :1]],
            "modulation_of_bands": [modulation[:, 1:17]],
            "modulation_of_cepstra": [modulation[:, 17:]],
            "envelope": _envelope(level),
            "shape": self._shape(power, bands, level),
            "correlation": [self._correlation(_pooled(bands, 8))],
            "median": [median],
            "peaks": [peaks],
        }
        return torch.cat([part.reshape(-1) for name in GROUPS for part in made[name]])

    def _modulation(self, tracks: Tensor) -> Tensor:
        """(bands of modulation, C) log power of how tracks (frames, C) swing about their mean."""
        tracks = tracks - tracks.mean(dim=0)
        if torch.onnx.is_in_onnx_export():
            turns = (self._bins * places(tracks[:, 0])[None]) % _TRANSFORM
            real, imaginary = self._cosine[turns] @ tracks, self._sine[turns] @ tracks
        else:
            # At these frequencies parts of the length of the transform, laid over each other, give the same sum.
            whole = nn.functional.pad(tracks, (0, 0, 0, -len(tracks) % _TRANSFORM))
            spectrum = torch.fft.rfft(whole.unflatten(0, (-1, _TRANSFORM)).sum(dim=0), dim=0)
            spectrum = spectrum[_MODULATION[0] : _MODULATION[-1]]
            real, imaginary = spectrum.real, spectrum.imag
        power = (real.square() + imaginary.square()) / _count(tracks)
        start = _MODULATION[0]
        edges = itertools.pairwise(_MODULATION)
        parts = [power[low - start : high - start].mean(dim=0) for low, high in edges]
        return torch.log10(torch.stack(parts) + 1e-2)

    def _shape(self, power: Tensor, bands: Tensor, level: Tensor) -> list[Tensor]:
        """Means and deviations of the spectrum's shape over frames, louder frames counting more."""
        share = power / (power.sum(dim=1, keepdim=True) + 1e-12)
        centroid = share @ self._ramp
        spread = (share * (self._ramp - centroid[:, None]).square()).sum(dim=1).add(1e-9).sqrt()
        flatness = (power + 1e-9).log().mean(dim=1) - (power.mean(dim=1) + 1e-9).log()
        low, high = _quantiles(bands.T, 0.2, 0.9)
        flux = (share[1:] - share[:-1]).square().sum(dim=1).add(1e-9).sqrt()
        roughness = (bands[:, 1:] - bands[:, :-1]).abs().mean(dim=1)
        peak = (share.amax(dim=1) + 1e-9).log()
        tracks = [centroid, spread, flatness.clamp_min(-6), peak, roughness, high - low, torch.cat([flux[:1], flux])]
        stacked = torch.stack(tracks, dim=1)
        weight = level.clamp_min(_ACTIVE_DB) - _ACTIVE_DB + 1e-3
        weight = weight / weight.sum()
        mean = weight @ stacked
        return [mean, (weight @ (stacked - mean).square() + 1e-9).sqrt()]

    def _correlation(self, bands: Tensor) -> Tensor:
        """(28,) correlation between the tracks of 8 bands."""
        centred = bands - bands.mean(dim=0)
        deviation = centred.square().mean(dim=0).add(1e-9).sqrt() + 1
        matrix = centred.T @ centred / _count(bands) / (deviation[:, None] * deviation[None])
        return matrix.reshape(-1)[self._pairs]


# No size of a clip may become a Python number here: a traced graph would keep that of the example.
def _count(frames: Tensor) -> Tensor:
    return torch.ones_like(frames.reshape(frames.shape[0], -1)[:, 0]).sum()


def places(values: Tensor) -> Tensor:
    """(T,) 0, 1, 2 … for values (T,)."""
    return torch.ones_like(values, dtype=torch.int64).cumsum(dim=0) - 1


def _decibel(power: Tensor) -> Tensor:
    """Level relative to the largest value."""
    level = 10 * (power + 1e-12).log10()
    return level - level.max()


def _span(active: Tensor) -> Tensor:
    """Places from the first active frame to the last, `_FRAMES` at least."""
    place = places(active)
    count = place[-1] + 1
    first = torch.where(active, place, count).min()
    last = torch.where(active, place, torch.zeros_like(place)).max()
    first = torch.minimum(first, count - _FRAMES)
    last = torch.maximum(last, first + _FRAMES - 1)
    return torch.nonzero((place >= first) & (place <= last))[:, 0]


def _quantiles(rows: Tensor, *shares: float) -> list[Tensor]:
    """Quantiles over the first axis, between neighbours linearly."""
    ordered, last, found = rows.sort(dim=0).values, _count(rows) - 1, []
    for share in shares:
        place = last * share
        low = place.floor()
        below, above = (ordered.index_select(0, at.long()[None])[0] for at in (low, place.ceil()))
        found.append(below + (above - below) * (place - low))
    return found


def _deviation(rows: Tensor) -> Tensor:
    return (rows - rows.mean(dim=0)).square().mean(dim=0).add(1e-9).sqrt()


def _pooled(bands: Tensor, count: int) -> Tensor:
    """(frames, count) means of neighbouring bands."""
    return bands.reshape(-1, count, _BANDS // count).mean(dim=2)


def _thirds(bands: Tensor) -> list[Tensor]:
    """Mean over each third of the frames; a frame on the border counts for both by its share."""
    place, length = places(bands[:, 0]).float(), _count(bands)
    found = []
    for third in range(3):
        start, stop = length * (third / 3), length * ((third + 1) / 3)
        share = (torch.minimum(place + 1, stop) - torch.maximum(place, start)).clamp(0, 1)
        found.append(share @ bands / share.sum())
    return found


def _envelope(level: Tensor) -> list[Tensor]:
    """17 numbers of how loudness runs: its quantiles, changes, loud shares, middle in time, and the clip's length."""
    rows, count = level[:, None], _count(level[:, None])
    step = level[1:] - level[:-1]
    energy = (level * (math.log(10) / 10)).exp()
    place = places(level).float() / count
    middle = (energy @ place) / energy.sum()
    numbers = [
        *(quantile[0] for quantile in _quantiles(rows, 0.05, 0.25, 0.5, 0.75, 0.95)),
        middle,
        ((energy @ (place - middle).square()) / energy.sum() + 1e-9).sqrt(),
        level.mean(),
        _deviation(rows)[0],
        step.max(),
        step.min(),
        _deviation(step[:, None])[0],
        *(((level - limit) / 2).sigmoid().mean() for limit in (-30.0, -20.0, -10.0)),
        count.log(),
        (((level + 30.0) / 2).sigmoid().sum() + 1).log(),
    ]
    return [number[None] for number in numbers]
