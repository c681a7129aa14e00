"""Spectral and pitch statistics against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from components.report.acoustics import clip_statistics, compare

RATE = 16000


def sine(hz: float, amplitude: float = 0.5, seconds: float = 1.0) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)


@pytest.mark.parametrize("hz", [110.0, 440.0, 880.0])
def test_a_pure_tone_has_its_own_frequency_as_centroid_and_pitch(hz: float) -> None:
    found = clip_statistics(sine(hz), RATE)
    assert found["centroid_hz"] == pytest.approx(hz, rel=0.01)
    assert found["pitch_hz"] == pytest.approx(hz, rel=0.005)
    assert found["voiced_share"] == 1.0
    assert found["crossings_hz"] == pytest.approx(2 * hz, rel=0.02)
    assert found["level_db"] == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.1)
    assert found["flatness"] < 0.01


def test_white_noise_is_flat_up_to_the_spread_of_a_periodogram_and_has_no_pitch() -> None:
    found = clip_statistics(np.random.default_rng(0).normal(0, 0.1, 4 * RATE), RATE)
    assert found["flatness"] == pytest.approx(np.exp(-np.euler_gamma), rel=0.03)
    assert found["centroid_hz"] == pytest.approx(RATE / 4, rel=0.02)
    assert found["bandwidth_hz"] == pytest.approx(RATE / 2 / np.sqrt(12), rel=0.02)
    assert found["voiced_share"] == 0 and "pitch_hz" not in found


def test_silence_around_a_sound_changes_nothing_but_the_frames_at_its_edges() -> None:
    padded = np.concatenate([np.zeros(RATE), sine(300.0, seconds=4.0), np.zeros(RATE)])
    alone, within = clip_statistics(sine(300.0, seconds=4.0), RATE), clip_statistics(padded, RATE)
    assert within["pitch_hz"] == pytest.approx(alone["pitch_hz"], rel=0.005)
    assert within["level_db"] == pytest.approx(alone["level_db"], abs=0.2)


def test_a_steady_tone_has_no_flux_and_noise_has() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, RATE)
    assert clip_statistics(sine(500.0), RATE)["flux"] < 0.01 < 0.3 < clip_statistics(noise, RATE)["flux"]


def test_a_silent_clip_has_no_statistics_and_a_clip_of_one_sample_some() -> None:
    assert clip_statistics(np.zeros(RATE), RATE) == {}
    assert np.isfinite(list(clip_statistics(np.ones(1), RATE).values())).all()


def test_a_set_is_at_no_distance_from_itself_and_disjoint_sets_at_full_distance() -> None:
    low = [{"centroid_hz": value} for value in (1.0, 2.0, 3.0)]
    high = [{"centroid_hz": value} for value in (11.0, 12.0, 13.0)]
    assert compare(low, low) == {"centroid_hz": {"real": 2.0, "mean": 2.0, "shift": 0.0, "ks": 0.0}}
    assert compare(low, high)["centroid_hz"] == {"real": 2.0, "mean": 12.0, "shift": 10.0, "ks": 1.0}
    assert compare(low, high[:1]) == {}
