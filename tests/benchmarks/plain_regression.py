"""Plain logistic regression on log-mel statistics: what any classifier of few clips must not fall below.

A peer for measurements, which shares no code with the product's learners: no pretraining, no augmentation, no tuning.
Mel scale and norm are Slaney's, librosa's default; frames lie wholly inside the clip, since with zeros at its edges the
regression falls by 5 points on `demo`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

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
STATISTICS = {"plain": 4 * BANDS, "plain, thirds": (4 + PARTS) * BANDS}
"""How many of the statistics a regression hears: without the means over thirds, or with them."""
Floats = NDArray[np.floating]


def statistics(waveform: Floats, rate: int) -> NDArray[np.float64]:
    """(7 · 64,) statistics of a mono clip (T,) at `rate` Hz.

    Over its frames, for each of the `levels`: mean, standard deviation, 90th percentile, deviation of the difference in
    time, and the means over three thirds of the clip.
    """
    rows = levels(waveform, rate)
    parts = [part.mean(axis=0) for part in np.array_split(rows, PARTS)]
    spread = [rows.std(axis=0), np.percentile(rows, 90, axis=0), np.diff(rows, axis=0).std(axis=0)]
    return np.concatenate([rows.mean(axis=0), *spread, *parts])


def levels(waveform: Floats, rate: int) -> NDArray[np.float64]:
    """Log-mel levels (frames, 64) of a mono clip (T,) in dB below its loudest bin, of at least three frames."""
    frame, hop = round(FRAME_S * rate), round(HOP_S * rate)
    length = 2 ** int(np.ceil(np.log2(2 * frame)))
    scaled = waveform / max(float(np.abs(waveform).max(initial=0)), 1e-9)
    padded = np.pad(scaled, (0, max(0, frame + (PARTS - 1) * hop - scaled.size)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, frame)[::hop] * np.hanning(frame)
    power = np.abs(np.fft.rfft(frames, length)) ** 2 @ _filters(rate, length)
    level = 10 * np.log10(np.maximum(power, 1e-12) / max(float(power.max()), 1e-12))
    return np.maximum(level, -FLOOR_DB)


def fitted(heard: Iterable[Floats], labels: Sequence[int]) -> dict[str, Any]:
    """Regressions on the `statistics` of clips with these labels, by name of their `STATISTICS`."""
    rows = np.stack(list(heard))
    return {
        name: make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(rows[:, :count], labels)
        for name, count in STATISTICS.items()
    }


def scores(models: Mapping[str, Any], unseen: Iterable[Floats], truth: Sequence[int]) -> dict[str, float]:
    """Share of clips that each of the `fitted` regressions gets right.

    Args:
        unseen: `statistics` of the clips.
        truth: their labels.
    """
    rows = np.stack(list(unseen))
    return {name: float(model.score(rows[:, : STATISTICS[name]], truth)) for name, model in models.items()}


@cache
def _filters(rate: int, length: int) -> NDArray[np.float64]:
    return np.asarray(
        mel_filter_bank(length // 2 + 1, BANDS, 0, rate / 2, rate, norm="slaney", mel_scale="slaney"), np.float64
    )
