from __future__ import annotations

import numpy as np
import pytest

from common.procedural.clips import render_clip
from components.caption_clips.acoustics import describe, measure

RATE = 16000


def tone(hz: float, seconds: float = 1.0, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def bursts(count: int, every_s: float, noise_dbfs: float = -70.0, hz: float = 800.0) -> np.ndarray:
    x = np.random.default_rng(0).standard_normal(round(count * every_s * RATE)) * 10 ** (noise_dbfs / 20)
    burst = tone(hz, 0.06, 0.5)
    for n in range(count):
        start = round((n + 0.3) * every_s * RATE)
        x[start : start + len(burst)] += burst
    return x.astype(np.float32)


@pytest.mark.parametrize("hz", [120.0, 440.0, 1000.0, 3000.0])
def test_the_pitch_of_a_tone_is_its_frequency(hz: float) -> None:
    found = measure(tone(hz), RATE)
    assert found.pitch_hz == pytest.approx(hz, abs=RATE / 1024)
    assert found.centroid_hz == pytest.approx(hz, abs=20)
    assert found.peak_dbfs == pytest.approx(20 * np.log10(0.3), abs=0.1)


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_onsets_are_counted_and_their_rate_measured(count: int) -> None:
    found = measure(bursts(count, 0.25), RATE)
    assert found.onsets == count
    if count > 1:
        assert found.onsets_per_s == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("snr_db", [12.0, 20.0, 30.0])
def test_the_signal_to_noise_ratio_is_measured(snr_db: float) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal(2 * RATE) * 0.1 * 10 ** (-snr_db / 20)
    x[RATE // 2 : RATE] += rng.standard_normal(RATE // 2) * 0.1
    assert measure(x.astype(np.float32), RATE).snr_db == pytest.approx(snr_db, abs=2)


def test_measurements_do_not_depend_on_the_level_but_for_the_peak() -> None:
    x = bursts(3, 0.3, -40)
    loud, quiet = measure(x, RATE), measure(x * 0.1, RATE)
    assert loud.peak_dbfs - quiet.peak_dbfs == pytest.approx(20, abs=0.01)
    assert loud.background == quiet.background
    assert loud._replace(peak_dbfs=0, background=None)[:-1] == pytest.approx(quiet._replace(peak_dbfs=0)[:-1], rel=1e-3)


def test_a_background_is_named_by_its_spectrum_and_only_when_audible() -> None:
    rng = np.random.default_rng(2)
    hiss = bursts(2, 0.5, -120) + 0.02 * rng.standard_normal(RATE).astype(np.float32)
    hum = bursts(2, 0.5, -120) + tone(50, 1.0, 0.05)
    assert measure(hiss, RATE).background == "hiss"
    assert measure(hum, RATE).background == "hum"
    assert measure(bursts(2, 0.5, -90), RATE).background is None
    assert measure(0.1 * rng.standard_normal(RATE), RATE).background is None


def test_a_caption_says_what_was_measured() -> None:
    assert describe("beep", measure(bursts(4, 0.5, hz=2000), RATE)) == "a high beep repeating slowly"
    assert describe("hum", measure(tone(100, level=0.9), RATE)) == "a loud dull low hum continuously"
    assert describe("beep", measure(bursts(1, 1.0, -120, hz=600) * 0.2, RATE)) == "a quiet dull mid pitched beep once"


def test_odd_clips_are_described_too() -> None:
    for x in (np.zeros(RATE), np.zeros(3), np.ones(1), np.full(500, 0.5)):
        assert "beep" in describe("beep", measure(x.astype(np.float32), RATE))


def test_on_the_built_in_corpus_most_tempos_and_all_levels_are_right() -> None:
    right = level = 0
    labels = ["beep", "dog bark", "hi hat", "rain", "siren", "water drip", "clap", "buzzer"]
    for label in labels:
        for seed in range(6):
            clip = render_clip(label, np.random.default_rng(seed), 1.024, RATE)
            caption = describe(label, measure(clip.audio, RATE))
            phrase = {"single": "once", "slow": "slowly", "fast": "quickly", "continuous": "continuously"}
            right += phrase[clip.attributes.tempo] in caption
            level += (
                (clip.attributes.loudness in caption)
                if clip.attributes.loudness != "normal"
                else ("loud" not in caption and "quiet" not in caption)
            )
    assert right >= 0.7 * 6 * len(labels)
    assert level == 6 * len(labels)
