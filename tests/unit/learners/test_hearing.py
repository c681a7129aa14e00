"""Features of many clips are computed together, and each clip's are its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.classifier.inference import BATCH_SIZE
from common.learners.front_ends import Features
from components.train_classifier.learner_kinds import _heard


class Counting:
    """A front end that gives a waveform's mean and notes how many waveforms came at once."""

    sample_rate_hz = 16000

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, waveforms: Sequence[NDArray[np.float32]]) -> list[Features]:
        self.sizes.append(len(waveforms))
        return [np.array([waveform.mean()], np.float32) for waveform in waveforms]


def test_clips_with_their_copies_come_in_batches_and_leave_in_order() -> None:
    hears, clips = Counting(), [[np.full(4, 10 * clip + copy, np.float32) for copy in range(4)] for clip in range(20)]
    found = _heard(hears, iter(clips))
    assert [[float(row[0]) for row in rows] for rows in found] == [[10 * c + k for k in range(4)] for c in range(20)]
    assert hears.sizes == [BATCH_SIZE, BATCH_SIZE, 80 - 2 * BATCH_SIZE]


def test_a_front_end_is_never_asked_about_nothing() -> None:
    hears = Counting()
    assert _heard(hears, iter([])) == [] and hears.sizes == []
    _heard(hears, iter([[np.zeros(4, np.float32)]] * 2 * BATCH_SIZE))
    assert hears.sizes == [BATCH_SIZE, BATCH_SIZE]
