"""Whether a classifier keeps its answer when another recorder, or another distance, would have made the clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from common.audio.signal import resample
from common.learners.opened import Opened

Waveform = NDArray[np.float32]
_FRAME = 400
_QUIETER_DB, _SILENT_DB, _BAND_HZ, _SILENCE_S = 30.0, 40.0, 8000, 0.2


def quieter(clip: Waveform, rate: int) -> Waveform:
    """30 dB down, rounded to 16 bit."""
    return np.asarray(np.round(clip * 10 ** (-_QUIETER_DB / 20) * 32767) / 32767, np.float32)


def gated(clip: Waveform, rate: int) -> Waveform:
    """Digital silence in place of what is 40 dB below the loudest 400 samples."""
    level = np.sqrt(np.add.reduceat(clip.astype(np.float64) ** 2, np.arange(0, clip.size, _FRAME)) / _FRAME)
    loud = np.repeat(level >= level.max() * 10 ** (-_SILENT_DB / 20), _FRAME)[: clip.size]
    return np.asarray(clip * loud, np.float32)


def narrow(clip: Waveform, rate: int) -> Waveform:
    """Resampled to 8 kHz and back: nothing is left above 4 kHz."""
    return np.asarray(resample(resample(clip, rate, _BAND_HZ), _BAND_HZ, rate), np.float32)


def late(clip: Waveform, rate: int) -> Waveform:
    """After 0.2 s of silence."""
    return np.concatenate([np.zeros(int(_SILENCE_S * rate), np.float32), clip])


CONDITIONS: Mapping[str, Callable[[Waveform, int], Waveform]] = {
    "30 dB quieter": quieter,
    "digital silence": gated,
    "8 kHz": narrow,
    "leading silence": late,
}


def agreement(classifier: Opened, clips: Sequence[Waveform], rate: int) -> dict[str, float]:
    """Percent of mono clips that keep their most probable label, by condition."""
    told = classifier.probabilities(clips, rate).argmax(axis=1)
    return {
        name: 100
        * float(np.mean(told == classifier.probabilities([change(c, rate) for c in clips], rate).argmax(axis=1)))
        for name, change in CONDITIONS.items()
    }
