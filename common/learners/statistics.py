"""Statistics of a clip's log-mel spectrogram, independent of its level: features of the learner `stats`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from transformers.audio_utils import mel_filter_bank

from common.classifier.features import checked

SAMPLE_RATE_HZ = 16000
_FRAME, _HOP, _FFT, _BANDS = 400, 160, 512, 64
_FLOOR_DB = 60.0
"""Energy further below the clip's loudest band is not heard: there lie noise floors, codecs and digital silence."""
_PARTS = 3


def statistics(clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(N, D) features of mono waveforms (T,) at `SAMPLE_RATE_HZ`.

    Of each of 64 mel bands, in dB below the loudest band of the clip: mean, deviation, 90th percentile, deviation of
    the difference between frames, and the mean over each third of the clip.

    Raises:
        DataError: a clip is not mono or not finite.
    """
    return np.stack([_of_clip(checked(clip, index)) for index, clip in enumerate(clips)])


def _of_clip(clip: NDArray[np.float32]) -> NDArray[np.float32]:
    level = _log_mel(clip)
    parts = [part.mean(axis=0) for part in np.array_split(level, _PARTS) if len(part)]
    parts += [parts[-1]] * (_PARTS - len(parts))
    change = np.diff(level, axis=0) if len(level) > 1 else np.zeros_like(level)
    found = [level.mean(axis=0), level.std(axis=0), np.percentile(level, 90, axis=0), change.std(axis=0), *parts]
    return np.concatenate(found).astype(np.float32)


def _log_mel(clip: NDArray[np.float32]) -> NDArray[np.float64]:
    """(frames, bands) in dB, 0 = the loudest, at least -`_FLOOR_DB`; all at the floor for digital silence."""
    frames = np.lib.stride_tricks.sliding_window_view(clip.astype(np.float64), _FRAME)[::_HOP]
    power = np.abs(np.fft.rfft((frames - frames.mean(axis=1, keepdims=True)) * np.hanning(_FRAME), _FFT)) ** 2
    energy = power @ _filters()
    loudest = energy.max()
    if loudest <= 0:
        return np.full(energy.shape, -_FLOOR_DB)
    floor = 10 ** (-_FLOOR_DB / 10)
    return np.asarray(10 * np.log10(np.maximum(energy / loudest, floor)))


@cache
def _filters() -> NDArray[np.float64]:
    made: NDArray[np.float64] = mel_filter_bank(
        num_frequency_bins=_FFT // 2 + 1,
        num_mel_filters=_BANDS,
        min_frequency=0,
        max_frequency=SAMPLE_RATE_HZ / 2,
        sampling_rate=SAMPLE_RATE_HZ,
        norm=None,
        mel_scale="htk",
    )
    return made
