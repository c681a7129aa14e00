"""Copies of a clip as another recorder would have made it, for training: what differs between them decides nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.audio.signal import resample
from common.runtime.seeding import numpy_generator

Waveform = NDArray[np.float32]
BAND_HZ = 8000
"""Rate of the band-limited copy: nothing is left above 4 kHz."""
_BLOCK = 400


def recorded_copies(waveform: Waveform, sample_rate_hz: int, clip_id: str) -> list[Waveform]:
    """Copies of a mono waveform (T,): without its upper band, with a noise floor, and after some silence.

    `clip_id` is the seed: whoever copies a clip gets the same copies.
    """
    generator = numpy_generator(0, "recorded", clip_id)
    narrow = resample(resample(waveform, sample_rate_hz, BAND_HZ), BAND_HZ, sample_rate_hz)
    silence = np.zeros(int(sample_rate_hz * generator.uniform(0.05, 0.3)), np.float32)
    return [narrow.astype(np.float32), _with_floor(waveform, generator), np.concatenate([silence, waveform])]


def _with_floor(waveform: Waveform, generator: np.random.Generator) -> Waveform:
    """Noise between white and pink, 25 to 50 dB below the loudest 400 samples."""
    spectrum = np.fft.rfft(generator.standard_normal(waveform.size))
    spectrum *= np.arange(1.0, spectrum.size + 1) ** -generator.uniform(0, 0.5)
    noise = np.fft.irfft(spectrum, waveform.size)
    blocks = np.add.reduceat(waveform.astype(np.float64) ** 2, np.arange(0, waveform.size, _BLOCK)) / _BLOCK
    level = np.sqrt(blocks.max()) * 10 ** (-generator.uniform(25, 50) / 20) / (noise.std() + 1e-12)
    return np.asarray(waveform + level * noise, dtype=np.float32)
