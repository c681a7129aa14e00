from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from common.audio.matching import BANDS, Recording, conditions, fit_recording
from common.audio.signal import levelled, rms_dbfs

RATE = 16000


def bursts(seed: int) -> np.ndarray:
    """Two bursts of noise in silence, as of a perfect microphone."""
    rng = np.random.default_rng(seed)
    envelope = np.repeat([0.0, 1.0, 0.0, 0.4, 0.0], RATE // 5)
    return (envelope * rng.standard_normal(len(envelope)) * 0.1 + 1e-5 * rng.standard_normal(len(envelope))).astype(
        np.float32
    )


def telephone(audio: np.ndarray, seed: int) -> np.ndarray:
    """The same below 3 kHz alone, with a noise floor 40 dB down, at another level."""
    narrow = sosfilt(butter(6, 3000, output="sos", fs=RATE), audio)
    return (0.3 * (narrow + 1e-3 * np.random.default_rng(seed).standard_normal(len(audio)))).astype(np.float32)


MADE = [bursts(seed) for seed in range(4)]
WANTED = [telephone(bursts(seed), seed) for seed in range(10, 14)]


def far(first: list[np.ndarray], second: list[np.ndarray]) -> list[float]:
    """Root mean square difference over bands, in dB, of mean spectra and of noise floors."""
    means = [np.mean([conditions(clip, RATE) for clip in clips], axis=0) for clips in (first, second)]
    return np.sqrt(np.square(means[0] - means[1]).mean(axis=1)).tolist()


def test_one_filter_brings_equaliser_band_limit_and_noise_floor_of_all_clips_to_the_wanted_ones() -> None:
    found = fit_recording(MADE, WANTED, RATE)
    assert found is not None
    matched = [found.applied(clip[None], RATE, seed)[0] for seed, clip in enumerate(MADE)]
    before, after = far(MADE, WANTED), far(matched, WANTED)
    assert min(before) > 10 and max(after) < 3
    assert all(clip.dtype == np.float32 and clip.shape == MADE[0].shape for clip in matched)
    assert rms_dbfs(matched[0]) == pytest.approx(-20, abs=0.5)


def test_clips_that_match_already_stay_as_they_are() -> None:
    found = fit_recording(WANTED, WANTED, RATE)
    assert found == Recording((0.0,) * BANDS, (-120.0,) * BANDS)
    assert np.allclose(found.applied(WANTED[0][None], RATE, 0)[0], levelled(WANTED[0]), atol=1e-4)


def test_the_noise_depends_on_the_seed_alone_and_silence_cannot_be_matched() -> None:
    found = fit_recording(MADE, WANTED, RATE)
    assert found is not None
    first, same, other = (found.applied(MADE[0][None], RATE, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, same) and not np.array_equal(first, other)
    assert fit_recording([np.zeros(RATE, np.float32)], WANTED, RATE) is None
