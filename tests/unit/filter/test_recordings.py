from __future__ import annotations

import numpy as np
import pytest
from transformers import ClapFeatureExtractor

from common.clap.features import ClapFeatures
from common.procedural.clips import make_clip
from components.filter_audio.recordings import find_copies, fingerprint, recording_similarity

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
    original = make_clip(label, np.random.default_rng(0), 1.024, RATE_HZ)
    other = make_clip(label, np.random.default_rng(1), 1.024, RATE_HZ)
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
    a = mark(features, make_clip("bell", np.random.default_rng(0), 1.0, RATE_HZ))
    b = mark(features, make_clip("bell", np.random.default_rng(1), 0.8, RATE_HZ))
    assert recording_similarity(a, a) == pytest.approx(1, abs=1e-5)
    assert recording_similarity(a, b) == pytest.approx(recording_similarity(b, a), abs=1e-5)


def test_a_spectrogram_without_detail_resembles_nothing() -> None:
    flat = fingerprint(np.full((50, 8), -100.0))
    assert not flat.any() and recording_similarity(flat, flat) == 0


def test_a_long_spectrogram_is_averaged_down() -> None:
    assert len(fingerprint(np.random.default_rng(0).standard_normal((1001, 4)))) <= 256


def test_only_pairs_of_high_cosine_are_compared_closely() -> None:
    asked: list[str] = []
    marks = {"a": 1, "b": 2, "x": 1, "y": 2}

    def fingerprints(clip_id: str) -> np.ndarray:
        asked.append(clip_id)
        row = np.zeros((4, 3), np.float32)
        row[marks[clip_id], marks[clip_id]] = 1
        return row

    similarity = np.array([[0.99, 0.97], [0.5, 0.2]])
    copies = find_copies(similarity, ["a", "b"], ["y", "x"], fingerprints, min_cosine=0.95, min_correlation=0.75)
    assert copies == {"a": "x"} and "b" not in asked
