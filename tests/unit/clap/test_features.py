from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import ClapFeatureExtractor

from common.clap.scorer import ClapFeatures
from common.errors import ConfigError, DataError


def stock(padding: str = "repeatpad", truncation: str = "rand_trunc", rate: int = 48_000) -> ClapFeatureExtractor:
    return ClapFeatureExtractor(
        max_length_s=1,
        sampling_rate=rate,
        padding=padding,
        truncation=truncation,
        frequency_min=50,
        frequency_max=rate * 7 // 24,
    )


def clips(rate: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    t = np.arange(rate) / rate
    return [
        (0.9 * np.sin(2 * np.pi * 440 * t) + 1e-4 * rng.standard_normal(rate)).astype(np.float32),
        (0.1 * rng.standard_normal(rate // 2 + 17)).astype(np.float32),
        (0.5 * np.sin(2 * np.pi * 3000 * t) + 1e-3 * rng.standard_normal(rate)).astype(np.float32)[: rate // 3],
        np.zeros(rate // 4, np.float32),
    ]


@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
@pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_features_equal_the_stock_extractors(padding: str, truncation: str, rate: int) -> None:
    extractor = stock(padding, truncation, rate)
    ours = ClapFeatures(extractor)
    for index, clip in enumerate(clips(rate)):
        expected = extractor(clip, sampling_rate=rate, return_tensors="np")["input_features"][0]
        got = ours(torch.from_numpy(ours.windows(clip)))[0].numpy()
        assert got.shape == expected.shape
        # Two clips are loud tones: the bands up to 80 dB below them show single precision.
        np.testing.assert_allclose(got, expected, atol=0.05 if index in (0, 2) else 5e-4)


def test_a_long_clip_becomes_fixed_windows_that_cover_it() -> None:
    features = ClapFeatures(stock())
    clip = np.random.default_rng(1).standard_normal(120_000).astype(np.float32)
    windows = features.windows(clip)
    assert windows.shape[1] == 48_000 and len(windows) >= 3
    np.testing.assert_array_equal(windows, features.windows(clip))
    np.testing.assert_array_equal(windows[0], clip[:48_000])
    assert clip[-1] in windows[-1]


def test_a_spectrogram_leaves_out_what_padding_added() -> None:
    features = ClapFeatures(stock(rate=16_000))
    clip = clips(16_000)[1]
    spectrogram = features.spectrogram(clip)
    assert spectrogram.shape == (len(clip) // 480 + 1, 64)


def test_empty_and_stereo_audio_are_errors() -> None:
    features = ClapFeatures(stock())
    for bad in (np.zeros(0, np.float32), np.zeros((2, 100), np.float32)):
        with pytest.raises(DataError, match="expected mono"):
            features.windows(bad)


def test_an_unknown_padding_is_an_error() -> None:
    with pytest.raises(ConfigError, match="padding"):
        ClapFeatures(stock(padding="mirror"))
