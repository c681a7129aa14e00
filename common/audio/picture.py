"""Spectrograms as images."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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
    padded = np.pad(waveform.astype(np.float64), (0, max(0, size - len(waveform))))
    hop = max(size // 4, -(-(len(padded) - size) // MAX_COLUMNS))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2 @ _mel_filters(size, rate).T
    if power.max() < 1e-10:
        return np.zeros((BANDS, len(frames)), np.uint8)
    decibels = 10 * np.log10(np.maximum(power / power.max(), 1e-12))
    shade = np.clip(1 + decibels / RANGE_DB, 0, 1)
    return np.round(255 * shade).astype(np.uint8).T[::-1]


def png(image: NDArray[np.uint8]) -> bytes:
    """Encode (height, width) shades 0 to 255, from dark to bright, as PNG; equal shades give equal bytes."""
    picture = Image.fromarray(image, "P")
    picture.putpalette(_palette())
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def _palette() -> bytes:
    stops = np.array(_PALETTE, dtype=np.float64)
    place = np.linspace(0, len(stops) - 1, 256)
    colours = np.stack([np.interp(place, np.arange(len(stops)), stops[:, channel]) for channel in range(3)], axis=1)
    return np.round(colours).astype(np.uint8).tobytes()


def _mel_filters(size: int, rate: int) -> NDArray[np.float64]:
    limits = _mel(np.array([50.0, rate / 2]))
    edges = np.linspace(limits[0], limits[1], BANDS + 2)
    bins = _mel(np.fft.rfftfreq(size, 1 / rate))
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.clip(np.minimum(rising, falling), 0, None)
    # The lowest bands can fall between two bins; they use the nearest one.
    empty = filters.sum(axis=1) == 0
    filters[empty, np.abs(bins[None] - edges[1:-1, None]).argmin(axis=1)[empty]] = 1.0
    return filters


def _mel(frequency_hz: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    return np.asarray(2595 * np.log10(1 + frequency_hz / 700))
