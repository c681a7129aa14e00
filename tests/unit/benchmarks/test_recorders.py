"""What a classifier is measured by under other recording conditions."""

from __future__ import annotations

import numpy as np
import pytest

from common.learners.opened import Opened
from tests.benchmarks.recorders import CONDITIONS, agreement
from tests.kit.sounds import RATE


class _Hears(Opened):
    """Tells loud from quiet clips, and clips with sound above 4 kHz from others."""

    sample_rates_hz = (RATE,)

    def heard(self, source):
        raise NotImplementedError

    def probabilities(self, waveforms, sample_rate_hz):
        upper = [np.abs(np.fft.rfft(clip))[int(clip.size * 0.3) :].sum() > 1 for clip in waveforms]
        loud = [np.abs(clip).max() > 0.1 for clip in waveforms]
        return np.array([[0.5 * a, 0.4 * b, 0.1] for a, b in zip(loud, upper, strict=True)])


def test_conditions_change_what_they_say() -> None:
    time = np.arange(RATE) / RATE
    clips = [np.float32(0.5 * np.sin(2 * np.pi * 6000 * time)), np.float32(0.01 * np.sin(2 * np.pi * 6000 * time))]
    kept = agreement(_Hears(("a", "b", "c"), False, None), clips, RATE)
    assert kept == pytest.approx({"30 dB quieter": 50, "digital silence": 100, "8 kHz": 50, "leading silence": 100})
    quiet_end = np.concatenate([clips[0], 0.001 * clips[0]])
    gated = CONDITIONS["digital silence"](quiet_end, RATE)
    assert np.array_equal(gated[:RATE], clips[0]) and not gated[RATE:].any()
    assert not CONDITIONS["leading silence"](clips[0], RATE)[: RATE // 5].any()
