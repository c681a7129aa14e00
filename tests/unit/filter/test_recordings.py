from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from transformers import ClapFeatureExtractor

from common.clap.scorer import ClapFeatures
from common.procedural.clips import render_clip
from components.filter_audio.recordings import (
    Fingerprints,
    fingerprint,
    first_copy,
    nearest_first,
    recording_similarity,
)

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def features() -> ClapFeatures:
    extractor = ClapFeatureExtractor(
        max_length_s=2, sampling_rate=RATE_HZ, hop_length=128, truncation="rand_trunc", frequency_max=8000
    )
    return ClapFeatures(extractor)


def mark(features: ClapFeatures, audio: np.ndarray) -> np.ndarray:
    return fingerprint(features.spectrogram(audio.astype(np.float32)))


@pytest.mark.parametrize("label", ["dog bark", "rain", "bell"])
def test_a_copy_is_told_from_an_independent_clip_of_the_same_class(features: ClapFeatures, label: str) -> None:
    original = render_clip(label, np.random.default_rng(0), 1.024, RATE_HZ).audio
    other = render_clip(label, np.random.default_rng(1), 1.024, RATE_HZ).audio
    rng = np.random.default_rng(2)
    rms = float(np.sqrt(np.mean(original**2)))
    copies = {
        "quieter": 0.2 * original,
        "later": np.concatenate([np.zeros(320), original])[: len(original)],
        "noisier": original + 0.05 * rms * rng.standard_normal(len(original)),
    }
    own = mark(features, original)
    for name, copy in copies.items():
        assert recording_similarity(own, mark(features, copy)) > 0.75, name
    assert recording_similarity(own, mark(features, other)) < 0.6


def test_similarity_is_symmetric_and_one_on_itself(features: ClapFeatures) -> None:
    a = mark(features, render_clip("bell", np.random.default_rng(0), 1.0, RATE_HZ).audio)
    b = mark(features, render_clip("bell", np.random.default_rng(1), 0.8, RATE_HZ).audio)
    assert recording_similarity(a, a) == pytest.approx(1, abs=1e-5)
    assert recording_similarity(a, b) == pytest.approx(recording_similarity(b, a), abs=1e-5)


def test_a_spectrogram_without_detail_resembles_nothing() -> None:
    flat = fingerprint(np.full((50, 8), -100.0))
    assert not flat.any() and recording_similarity(flat, flat) == 0


def test_a_long_spectrogram_is_averaged_down() -> None:
    assert len(fingerprint(np.random.default_rng(0).standard_normal((1001, 4)))) <= 256


def test_the_nearest_come_first_and_only_those_that_are_near() -> None:
    assert nearest_first(np.array([0.96, 0.5, 0.99, 0.96]), 0.95, 16) == [2, 0, 3]
    assert nearest_first(np.array([0.96, 0.5, 0.99, 0.96]), 0.95, 1) == [2]
    assert nearest_first(np.zeros(0), 0.95, 16) == []


def test_the_first_that_is_the_same_recording_is_named_and_no_clip_is_read_in_vain() -> None:
    asked: list[str] = []
    marks = {"a": 1, "b": 2, "x": 1, "y": 2, "z": 1}

    def fingerprints(clip_id: str) -> np.ndarray:
        asked.append(clip_id)
        row = np.zeros((4, 3), np.float32)
        row[marks[clip_id], marks[clip_id]] = 1
        return row

    assert first_copy("a", ["y", "x", "z"], fingerprints, 0.75) == "x" and "z" not in asked
    asked.clear()
    assert first_copy("b", [], fingerprints, 0.75) is None and asked == []


def test_fingerprints_come_back_from_disk_and_a_clip_is_heard_once(features: ClapFeatures) -> None:
    clips = {
        label: render_clip(label, np.random.default_rng(0), seconds, RATE_HZ).audio.astype(np.float32)
        for label, seconds in (("bell", 1.0), ("rain", 0.4), ("dog bark", 1.6))
    }
    heard: list[str] = []

    def spectrogram(clip_id: str) -> np.ndarray:
        heard.append(clip_id)
        return features.spectrogram(clips[clip_id])

    with closing(Fingerprints(spectrogram)) as marks:
        marks.put("bell", features.spectrogram(clips["bell"]))
        for label in ("rain", "bell", "dog bark", "rain", "bell"):
            np.testing.assert_allclose(marks.get(label), mark(features, clips[label]), atol=1e-4)
    assert heard == ["rain", "dog bark"]
