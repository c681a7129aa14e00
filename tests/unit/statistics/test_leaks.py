from __future__ import annotations

import numpy as np
import pytest

from common.audio.signal import pcm16
from common.clap.copies import Limits, heard_alike, waveform_correlation
from common.contracts.evaluation import LeakCounts
from components.evaluate_classifier.leaks import ClipSet, find_leaks, fingerprint


def noise(seed: int, length: int = 4000) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(length)).astype(np.float32)


def clip_set(name: str, waveforms: list[np.ndarray], embeddings: np.ndarray) -> ClipSet:
    return ClipSet(
        embeddings.astype(np.float32),
        lambda index: waveforms[index],
        name,
        [f"{name}{i}" for i in range(len(waveforms))],
        [fingerprint(w) for w in waveforms],
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda x: -0.2 * x,
        lambda x: np.roll(x, 300),
        lambda x: x[500:3500],
        lambda x: np.concatenate([noise(9, 700), x]),
        lambda x: x + 0.3 * noise(7),
    ],
)
def test_gain_polarity_shift_crop_padding_and_noise_leave_a_copy_a_copy(change) -> None:  # type: ignore[no-untyped-def]
    assert waveform_correlation(noise(0), change(noise(0))) > 0.9


def test_two_recordings_are_no_copies_and_silence_is_none() -> None:
    assert waveform_correlation(noise(0), noise(1)) < 0.3
    assert waveform_correlation(noise(0), np.zeros(4000, np.float32)) == 0.0


def test_correlation_at_each_lag_equals_the_direct_sum() -> None:
    a, b = noise(0, 40), noise(1, 23)
    best = 0.0
    for lag in range(-22, 40):
        x, y = a[max(lag, 0) : lag + 23], b[max(-lag, 0) : 40 - lag]
        length = min(len(x), len(y))
        if length >= 11.5:
            x, y = x[:length].astype(float), y[:length].astype(float)
            best = max(best, abs(x @ y) / np.sqrt((x @ x) * (y @ y)))
    assert waveform_correlation(a, b) == pytest.approx(best)


def test_a_high_cosine_alone_is_no_leak() -> None:
    test = clip_set("t", [noise(0)], np.array([[1.0, 0.0]]))
    other = clip_set("g", [noise(1)], np.array([[1.0, 0.0]]))
    found = find_leaks(test, [other], Limits(cosine=0.98, correlation=0.9, neighbours=5))
    assert found.sets["g"] == LeakCounts(clips=1, exact=0, near=0, checked=1)
    assert found.test_clips == 0


def test_exact_and_near_copies_are_counted_apart() -> None:
    test = clip_set("t", [noise(0), noise(1), noise(2)], np.eye(3))
    other = clip_set("g", [noise(0), 0.5 * noise(1), noise(5)], np.eye(3))
    found = find_leaks(test, [other], Limits(cosine=0.98, correlation=0.9, neighbours=5))
    assert found.sets["g"] == LeakCounts(clips=3, exact=1, near=1, checked=2)
    pairs = [(pair.test, pair.clip, pair.kind) for pair in found.pairs]
    assert pairs == [("t0", "g0", "exact"), ("t1", "g1", "near")]
    assert found.test_clips == 2


def test_short_clips_that_are_alike_are_no_copies_and_those_at_another_level_are() -> None:
    """Over a few periods any two vowels of one pitch correlate."""
    time = np.arange(800) / 16000

    def vowel(second: float) -> np.ndarray:
        return (np.sin(2 * np.pi * 200 * time) + second * np.sin(2 * np.pi * 600 * time)).astype(np.float32)

    test = clip_set("t", [vowel(0.3)], np.ones((1, 1)))
    other = clip_set("g", [vowel(-0.1), 0.5 * vowel(0.3)], np.ones((2, 1)))
    assert waveform_correlation(vowel(0.3), vowel(-0.1)) > 0.9
    found = find_leaks(test, [other], Limits(cosine=0.98, correlation=0.9, neighbours=5))
    assert [(pair.clip, pair.kind) for pair in found.pairs] == [("g1", "near")]


def test_a_quiet_copy_is_heard_over_the_same_floor() -> None:
    sound = np.concatenate([noise(0), 1e-4 * noise(1)])
    copy = pcm16(0.02 * sound) / np.float32(32768)
    rests = [10 * np.log10(np.mean(heard_alike(x)[4000:] ** 2)) for x in (sound, copy)]
    assert not copy[4000:].any() and rests[0] == pytest.approx(rests[1], abs=0.1)


def test_a_fingerprint_hears_samples_and_not_rounding() -> None:
    wave = noise(0)
    assert fingerprint(wave) == fingerprint(pcm16(wave) / np.float32(32768))
    assert fingerprint(wave) != fingerprint(wave[1:])
