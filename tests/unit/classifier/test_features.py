from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import ASTFeatureExtractor

from common.audio.signal import MAX_GAIN_DB
from common.classifier.features import LogMel, fit_length, fixed_window_features, random_window_features
from common.errors import DataError


def signals(length: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    time = np.arange(length) / 16000
    loud_tone = 0.9 * np.sin(2 * np.pi * 100.3 * time)
    return [
        (0.3 * rng.standard_normal(length)).astype(np.float32),
        (np.round(loud_tone * 32768) / 32768).astype(np.float32),
        np.zeros(length, np.float32),
        (0.5 + 1e-4 * rng.standard_normal(length)).astype(np.float32),
        (1e-6 * rng.standard_normal(length)).astype(np.float32),
    ]


@pytest.mark.filterwarnings("ignore:At least one mel filter")
@pytest.mark.parametrize(
    ("settings", "length"),
    [
        ({"num_mel_bins": 64, "max_length": 104}, 16384),
        ({}, 40000),
        ({"num_mel_bins": 64, "max_length": 20, "mean": -3.0, "std": 2.0}, 16000),
        ({"num_mel_bins": 32, "max_length": 50, "do_normalize": False}, 5000),
        ({"num_mel_bins": 40, "max_length": 50, "sampling_rate": 22050}, 9001),
    ],
)
def test_log_mel_equals_the_stock_extractor(settings: dict[str, float], length: int) -> None:
    extractor = ASTFeatureExtractor(**settings)
    clips = signals(length)
    expected = extractor(clips, sampling_rate=extractor.sampling_rate, return_tensors="np")["input_values"]
    log_mel = LogMel(extractor)
    made = torch.stack([fit_length(clip, log_mel.max_length, log_mel.pad_value) for clip in log_mel(clips)])
    np.testing.assert_allclose(made.numpy(), expected, rtol=0, atol=1e-5)


def test_log_mel_settings_survive_saving(tmp_path) -> None:
    ASTFeatureExtractor(num_mel_bins=24, max_length=60, mean=-1.5, std=2.5).save_pretrained(tmp_path)
    log_mel = LogMel(ASTFeatureExtractor.from_pretrained(tmp_path))
    assert (log_mel.num_mel_bins, log_mel.max_length, log_mel.pad_value) == (24, 60, 1.5 / 5.0)


def test_an_extractor_with_a_level_hears_no_gain_and_nothing_below_its_floor() -> None:
    plain, level = {"num_mel_bins": 64, "max_length": 104}, {"peak_dbfs": -20.0, "floor_db": -50.0}
    log_mel, as_it_is = LogMel(ASTFeatureExtractor(**plain, **level)), LogMel(ASTFeatureExtractor(**plain))
    clip = signals(8000)[0] * np.linspace(0, 1, 8000, dtype=np.float32)
    clip[:2000] *= 1e-4
    (found,) = log_mel([clip])
    assert found[0].max() - log_mel.silence < 1e-6 < 0.5 < found.max() - log_mel.silence
    for gain in (0.03, 3.0):
        torch.testing.assert_close(log_mel([gain * clip])[0], found, rtol=0, atol=1e-4)
    scaled = as_it_is([clip * np.float32(0.1 / np.abs(clip).max())])[0]
    torch.testing.assert_close(scaled.clamp_min(log_mel.silence), found, rtol=0, atol=1e-4)
    (part,) = log_mel([clip[160 * 20 :]], peak=float(np.abs(clip).max()))
    torch.testing.assert_close(part, found[20:], rtol=0, atol=1e-6)


def test_silence_is_not_made_loud() -> None:
    log_mel = LogMel(ASTFeatureExtractor(num_mel_bins=64, max_length=104, peak_dbfs=-10.0, floor_db=-56.0))
    noise = np.random.default_rng(1).standard_normal(8000).astype(np.float32)
    nothing, faint, quiet = log_mel([np.zeros(8000, np.float32), 1e-7 * noise, 1e-2 * noise])
    assert (nothing - log_mel.silence).abs().max() < 1e-6
    assert faint.max() < quiet.max() - (MAX_GAIN_DB - 50) * log_mel.decibel


def test_a_clips_features_do_not_depend_on_its_neighbours() -> None:
    log_mel = LogMel(ASTFeatureExtractor(num_mel_bins=64, max_length=104))
    clips = signals(8000)
    together = log_mel(clips)
    assert all(torch.equal(row, log_mel([clip])[0]) for row, clip in zip(together, clips, strict=True))


def test_a_window_on_a_hop_is_a_slice_of_the_whole_clips_features() -> None:
    log_mel = LogMel(ASTFeatureExtractor(num_mel_bins=64, max_length=104))
    clip = signals(16000)[0]
    whole, part = log_mel([clip, clip[160 * 20 :]])
    torch.testing.assert_close(part, whole[20:], rtol=0, atol=1e-6)


def test_a_clip_shorter_than_a_frame_gives_one_frame() -> None:
    log_mel = LogMel(ASTFeatureExtractor(num_mel_bins=64, max_length=104))
    assert log_mel([np.ones(1, np.float32)])[0].shape == (1, 64)


def test_stereo_and_nan_are_refused() -> None:
    log_mel = LogMel(ASTFeatureExtractor(num_mel_bins=64, max_length=104))
    with pytest.raises(DataError, match="mono"):
        log_mel([np.zeros((2, 1000), np.float32)])
    with pytest.raises(DataError, match="NaN"):
        log_mel([np.full(1000, np.nan, np.float32)])


def test_fixed_windows_cover_every_frame_and_pad_only_short_clips() -> None:
    frames = torch.arange(25.0)[:, None]
    windows = fixed_window_features(frames, 10, -1.0)
    assert windows.shape == (3, 10, 1)
    assert set(windows.flatten().tolist()) == set(range(25))
    assert fixed_window_features(frames[:20], 10, -1.0).shape[0] == 2
    short = fixed_window_features(frames[:4], 10, -1.0)
    assert short.flatten().tolist() == [0, 1, 2, 3, -1, -1, -1, -1, -1, -1]


def test_random_windows_reach_both_ends_and_nothing_beyond() -> None:
    frames = torch.arange(25.0)[:, None]
    starts = {int(random_window_features(frames, 10, -1.0, p)[0]) for p in np.linspace(0, 0.999999, 200)}
    assert starts == set(range(16))
    assert random_window_features(frames[:4], 10, -1.0, 0.99).flatten().tolist()[:5] == [0, 1, 2, 3, -1]
