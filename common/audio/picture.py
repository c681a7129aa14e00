"""Spectrograms as images."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from common.audio.mel import mel_filters
from common.audio.signal import spectra

BANDS = 72
MAX_COLUMNS = 300
RANGE_DB = 65.0

_PALETTE = ((13, 17, 38), (38, 44, 92), (58, 82, 139), (42, 120, 142), (45, 160, 133), (124, 199, 100), (244, 231, 120))


def spectrogram(waveform: NDArray[np.float32], rate: int) -> NDArray[np.uint8]:
    """Log-mel spectrogram as an image, (BANDS, columns), highest band first; 255 = the loudest.

    Frames of 32 ms; 50 Hz to half the rate; `RANGE_DB` below the loudest band is 0. A silent clip is all 0.

    Args:
        waveform: (T,) mono.
        rate: in Hz.
    """
    size = 2 ** round(np.log2(0.032 * rate))
    hop = max(size // 4, -(-(len(waveform) - size) // MAX_COLUMNS))
    power = np.abs(spectra(waveform, size, hop)) ** 2 @ mel_filters(BANDS, size, rate, 50.0, "htk").T
    if power.max() < 1e-10:
        return np.zeros(power.T.shape, np.uint8)
    decibels = 10 * np.log10(np.maximum(power / power.max(), 1e-12))
    shade = np.clip(1 + decibels / RANGE_DB, 0, 1)
    return np.round(255 * shade).astype(np.uint8).T[::-1]


def png(image: NDArray[np.uint8]) -> bytes:
    """Encode (height, width) shades 0 to 255, from dark to bright, as PNG; equal shades give equal bytes."""
    stops = np.array(_PALETTE, dtype=np.float64)
    place = np.linspace(0, len(stops) - 1, 256)
    colours = np.stack([np.interp(place, np.arange(len(stops)), channel) for channel in stops.T], axis=1)
    picture = Image.fromarray(image, "P")
    picture.putpalette(np.round(colours).astype(np.uint8).tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()
