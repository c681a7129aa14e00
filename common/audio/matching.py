"""Recording conditions of clips, their equaliser, band limit and noise floor, and the transfer to other clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from common.audio.signal import is_silent, levelled, spectra

Floats = NDArray[np.float64]
BANDS = 24
LOWEST_HZ = 60.0
QUIET = 0.1
"""The noise floor of a band is this quantile of its level over frames."""
_MOST_DB, _LEAST_DB = 12.0, -40.0
_NOTHING_DB = -120.0


@dataclass(frozen=True, slots=True)
class Recording:
    """One filter and one noise for all clips of a set."""

    gains_db: tuple[float, ...]
    """Of each band; bands are even in the logarithm of frequency, from `LOWEST_HZ` to Nyquist."""
    noise_db: tuple[float, ...]
    """Level of the noise added in each band to a clip at `LEVEL_DBFS`, on the scale of `conditions`."""

    def applied(self, audio: np.ndarray, rate: int, seed: int) -> np.ndarray:
        """Audio (C, T) float32 through the filter, at `LEVEL_DBFS`, with the noise; at the `rate` in Hz of the fit."""
        filtered = levelled(_shaped(audio, np.array(self.gains_db), rate))
        white = 0.1 * np.random.default_rng(seed).standard_normal(audio.shape)
        return np.asarray(filtered + _shaped(white, np.array(self.noise_db) - _white_floor(rate), rate), np.float32)


def conditions(audio: np.ndarray, rate: int) -> tuple[Floats, Floats]:
    """Level of the mean power and noise floor of each band (BANDS,), in dB, of a mono clip (T,) brought to one level.

    The mean is of power, not of dB, so that loud frames decide it and the floor between them does not.
    """
    n_fft = 2 ** round(np.log2(0.064 * rate))
    power = np.abs(spectra(levelled(audio), n_fft, n_fft // 2)) ** 2 / np.square(np.hanning(n_fft)).sum()
    edges = np.geomspace(LOWEST_HZ, rate / 2, BANDS + 1) * n_fft / rate
    starts = edges[:-1].round().astype(int)
    widths = np.diff([*starts, power.shape[1]]).clip(1)
    bands = np.add.reduceat(power, starts, axis=1) / widths
    mean, floor = (10 * np.log10(found + 1e-12) for found in (bands.mean(axis=0), np.quantile(bands, QUIET, axis=0)))
    return mean, floor


def fit_recording(made: Sequence[np.ndarray], wanted: Sequence[np.ndarray], rate: int) -> Recording | None:
    """Filter and noise that turn the conditions of `made` clips into those of `wanted` ones.

    The equaliser is the difference of the mean log spectra, smoothed over bands. Noise is added where the wanted floor
    lies above that of the filtered clips. Both sets, mono (T,) at `rate` Hz, should have the same labels in equal
    shares. Returns none where all clips of a set are silent.
    """
    sets = [[conditions(clip, rate) for clip in clips if not is_silent(clip)] for clips in (made, wanted)]
    if not all(sets):
        return None
    (made_mean, made_floor), (mean, floor) = (np.mean(found, axis=0) for found in sets)
    gains = np.convolve(np.pad(mean - made_mean, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
    gains = gains.clip(_LEAST_DB, _MOST_DB)
    lacking = 10 ** (floor / 10) - 10 ** ((made_floor + gains) / 10)
    noise = 10 * np.log10(np.maximum(lacking, 10 ** (_NOTHING_DB / 10)))
    return Recording(*(tuple(np.round(values, 2).tolist()) for values in (gains, noise)))


def _shaped(audio: np.ndarray, gains_db: Floats, rate: int) -> np.ndarray:
    """Audio (C, T) under gains that run straight between the middles of the bands, without a change of phase."""
    edges = np.geomspace(LOWEST_HZ, rate / 2, BANDS + 1)
    length = audio.shape[-1] + rate // 4
    hz = np.fft.rfftfreq(length, 1 / rate)
    gain = 10 ** (np.interp(np.log(np.maximum(hz, 1.0)), np.log(np.sqrt(edges[:-1] * edges[1:])), gains_db) / 20)
    return np.asarray(np.fft.irfft(np.fft.rfft(audio, length) * gain, length)[..., : audio.shape[-1]])


@cache
def _white_floor(rate: int) -> Floats:
    """Noise floor of white noise at `LEVEL_DBFS`."""
    return conditions(np.random.default_rng(0).standard_normal(8 * rate), rate)[1]
