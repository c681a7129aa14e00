"""Plain logistic regression on log-mel statistics: what any classifier of few clips must not fall below.

A peer for measurements, which shares no code with the product's learners: no pretraining, no augmentation, no tuning.
Its spectrogram is librosa's default: centred frames, Slaney's mel scale and norm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers.audio_utils import mel_filter_bank

FRAME_S, HOP_S, BANDS = 0.025, 0.01, 64
FLOOR_DB = 60.0
"""Below a clip's loudest bin; where the dynamic range ends."""
PARTS = 3
Floats = NDArray[np.float32]


def statistics(waveform: Floats, rate: int) -> NDArray[np.float64]:
    """(7 · 64,) statistics of a mono clip (T,) at `rate` Hz.

    Over its frames, for each log-mel band in dB below the clip's loudest bin: mean, standard deviation, 90th
    percentile, deviation of the difference in time, and the means over three thirds of the clip.
    """
    frame, hop = round(FRAME_S * rate), round(HOP_S * rate)
    length = 2 ** int(np.ceil(np.log2(2 * frame)))
    padded = np.pad(waveform / max(float(np.abs(waveform).max(initial=0)), 1e-9), length // 2)
    padded = np.pad(padded, (0, max(0, frame + (PARTS - 1) * hop - padded.size)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, frame)[::hop] * np.hanning(frame)
    power = np.abs(np.fft.rfft(frames, length)) ** 2 @ _filters(rate, length)
    level = 10 * np.log10(np.maximum(power, 1e-12) / max(float(power.max()), 1e-12))
    rows = np.maximum(level, -FLOOR_DB)
    parts = [part.mean(axis=0) for part in np.array_split(rows, PARTS)]
    spread = [rows.std(axis=0), np.percentile(rows, 90, axis=0), np.diff(rows, axis=0).std(axis=0)]
    return np.concatenate([rows.mean(axis=0), *spread, *parts])


def accuracy(
    train: Iterable[Floats], labels: Sequence[int], test: Iterable[Floats], truth: Sequence[int], rate: int
) -> float:
    """Share of test clips that a regression on the training clips gets right; mono waveforms at `rate` Hz."""
    heard, unseen = (np.stack([statistics(clip, rate) for clip in clips]) for clips in (train, test))
    return fitted_accuracy(heard, labels, unseen, truth)


def fitted_accuracy(
    heard: NDArray[np.float64], labels: Sequence[int], unseen: NDArray[np.float64], truth: Sequence[int]
) -> float:
    """The same from finished `statistics`, (N, D) and (M, D)."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    return float(model.fit(heard, labels).score(unseen, truth))


@cache
def _filters(rate: int, length: int) -> NDArray[np.float64]:
    return np.asarray(
        mel_filter_bank(length // 2 + 1, BANDS, 0, rate / 2, rate, norm="slaney", mel_scale="slaney"), np.float64
    )
