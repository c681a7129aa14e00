"""Reading, mixing, resampling, measuring and writing audio."""

from __future__ import annotations

import errno
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from common.audio.file import AudioError
from common.audio.signal import (
    check_signal,
    fixed_windows,
    loudest_window,
    match_loudness,
    read_audio,
    read_mono,
    resample,
    rms_dbfs,
    to_mono,
    write_flac,
)
from common.errors import StorageError


def tone(rate: int, seconds: float = 1.0, hz: float = 1000.0, level: float = 0.5) -> np.ndarray:
    """A sine with faded ends, so that no resampler rings at a step."""
    t = np.arange(round(rate * seconds)) / rate
    fade = np.clip(np.minimum(t, t[-1] - t) / 0.05, 0, 1)
    return level * np.sin(2 * np.pi * hz * t) * np.sin(np.pi / 2 * fade) ** 2


def log_mel(x: np.ndarray, rate: int, highest_hz: float) -> np.ndarray:
    """Natural log of 40 mel bands up to `highest_hz`, floored 80 dB below the strongest cell."""
    window, hop = rate // 40, rate // 100
    frames = np.lib.stride_tricks.sliding_window_view(x, window)[::hop] * np.hanning(window)
    power = np.abs(np.fft.rfft(frames, 512)) ** 2
    mel = np.linspace(0, 2595 * np.log10(1 + highest_hz / 700), 42)
    edges = 700 * (10 ** (mel / 2595) - 1)
    hz = np.fft.rfftfreq(512, 1 / rate)
    up = (hz[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - hz[:, None]) / (edges[2:] - edges[1:-1])
    bands = power @ np.clip(np.minimum(up, down), 0, None)
    return np.log(bands + 1e-8 * bands.max())


@pytest.mark.parametrize("rate", [22050, 44100, 48000])
@pytest.mark.parametrize("hz", [150.0, 1000.0, 5000.0])
def test_a_tone_gives_the_same_log_mel_whatever_rate_it_was_recorded_at(tmp_path: Path, rate: int, hz: float) -> None:
    features = []
    for recorded in (16000, rate):
        path = tmp_path / f"{recorded}.wav"
        soundfile.write(path, np.stack([tone(recorded, hz=hz)] * 2, axis=1), recorded, subtype="FLOAT")
        features.append(log_mel(read_mono(path, 16000), 16000, 7200))
    assert np.abs(features[0] - features[1]).max() < 0.05


@pytest.mark.parametrize(
    ("container", "encoding", "error"),
    [
        ("WAV", "PCM_U8", 1 / 127),
        ("WAV", "PCM_16", 1 / 32767),
        ("WAV", "PCM_24", 1e-6),
        ("WAV", "FLOAT", 1e-7),
        ("WAV", "DOUBLE", 1e-7),
        ("FLAC", "PCM_24", 1e-6),
        ("OGG", "VORBIS", 0.1),
        ("MP3", "MPEG_LAYER_III", 0.1),
    ],
)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_every_format_depth_and_channel_count_reads_as_float_within_its_precision(
    tmp_path: Path, container: str, encoding: str, error: float, channels: int
) -> None:
    if container == "MP3" and channels > 2:
        pytest.skip("MP3 has two channels at most")
    x = np.stack([tone(16000, 0.5, 200.0 * (c + 1)) for c in range(channels)], axis=1)
    soundfile.write(tmp_path / "a.bin", x, 16000, format=container, subtype=encoding)
    audio, info = read_audio(tmp_path / "a.bin")
    assert (audio.dtype, audio.shape, info.sample_rate_hz) == (np.float32, (channels, 8000), 16000)
    assert np.abs(audio.T - x).max() <= error


@pytest.mark.parametrize("suffix", [".flac", ".mp3", ".ogg", ".raw", ".txt", ""])
def test_content_decides_and_not_the_suffix(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, tone(8000), 8000, format="WAV", subtype="PCM_16")
    audio, info = read_audio(path)
    assert (info.container, info.encoding, audio.shape) == ("WAV", "PCM_16", (1, 8000))


@pytest.mark.parametrize(
    ("container", "encoding"),
    [("WAV", "PCM_16"), ("WAV", "DOUBLE"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")],
)
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_file_cut_short_is_called_truncated(tmp_path: Path, container: str, encoding: str, kept: float) -> None:
    path = tmp_path / "a"
    soundfile.write(path, tone(16000, 2), 16000, format=container, subtype=encoding)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(AudioError) as failure:
        read_audio(path)
    assert failure.value.reason == "truncated"


def test_each_kind_of_bad_file_has_its_reason_and_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("no sound at all, only words " * 50)
    (tmp_path / "folder.wav").mkdir()
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan, 0.2]), 8000, subtype="FLOAT")
    soundfile.write(tmp_path / "inf.wav", np.array([0.1, -np.inf, 0.2]), 8000, subtype="FLOAT")
    # float32 overflows where such samples are squared or added up.
    soundfile.write(tmp_path / "huge.wav", tone(8000, 1) * 1e30, 8000, subtype="FLOAT")
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 8000)
    expected = {
        "absent": "missing_file",
        "empty": "empty_file",
        "text": "no_audio",
        "folder": "unreadable",
        "nan": "nan",
        "inf": "nan",
        "huge": "nan",
        "none": "no_samples",
    }
    for name, reason in expected.items():
        with pytest.raises(AudioError, match=f"{name}.wav") as failure:
            read_audio(tmp_path / f"{name}.wav")
        assert failure.value.reason == reason


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_sample_that_is_no_number_is_found_wherever_the_loudest_part_is(tmp_path: Path, value: float) -> None:
    x = np.concatenate([tone(8000, 3), 0.1 * tone(8000, 30)])
    x[25 * 8000] = value
    soundfile.write(tmp_path / "a.wav", x, 8000, subtype="DOUBLE")
    with pytest.raises(AudioError) as failure:
        read_audio(tmp_path / "a.wav", max_duration_s=2.0)
    assert failure.value.reason == "nan"


@pytest.mark.parametrize("form", ["WAV", "OGG"])
@pytest.mark.parametrize("seconds", [0.3, 2.0, 11.04, 60.0])
def test_the_loudest_part_is_that_of_the_whole(tmp_path: Path, form: str, seconds: float) -> None:
    rate = 8000
    x = np.random.default_rng(3).standard_normal(round(47.13 * rate)) * np.linspace(0.02, 0.2, round(47.13 * rate))
    x[20 * rate : 24 * rate] *= 3
    soundfile.write(tmp_path / "a", x, rate, format=form)
    whole, info = read_audio(tmp_path / "a")
    assert info.frames == len(x)
    part, info = read_audio(tmp_path / "a", max_duration_s=seconds)
    assert info.frames == len(x)
    length, step = min(len(x), round(seconds * rate)), rate // 10
    starts = np.arange(0, len(x) - length + 1, step)
    best = max(starts, key=lambda start: float(np.square(whole[0, start : start + length], dtype=np.float64).sum()))
    energy = np.square(part, dtype=np.float64).sum()
    assert any(np.array_equal(part, whole[:, start : start + length]) for start in starts)
    assert energy >= 0.99 * np.square(whole[0, best : best + length], dtype=np.float64).sum()


def test_integers_that_were_written_as_floats_are_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(8000, 1) * 2**31, 8000, subtype="FLOAT")
    assert np.abs(read_audio(tmp_path / "a.wav")[0]).max() > 1e9


def test_two_hours_are_read_in_little_memory_and_the_loudest_part_is_kept(tmp_path: Path) -> None:
    path, rate = tmp_path / "long.flac", 8000
    with soundfile.SoundFile(path, "w", rate, 1, format="FLAC", subtype="PCM_16") as file:
        for minute in range(120):
            part = np.zeros(60 * rate, np.int16)
            if minute == 77:
                part[20 * rate : 24 * rate] = 8000
            file.write(part)
    tracemalloc.start()
    audio, _ = read_audio(path, max_duration_s=5.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    assert audio.shape == (1, 5 * rate)
    assert np.count_nonzero(audio) == 4 * rate


def test_channels_that_cancel_do_not_become_silence() -> None:
    x = tone(8000)
    np.testing.assert_allclose(to_mono(np.stack([x, -x]).astype(np.float32)), x, atol=1e-6)
    np.testing.assert_allclose(to_mono(np.stack([x, x / 2]).astype(np.float32)), 0.75 * x, atol=1e-6)


@pytest.mark.parametrize(("length", "source", "target"), [(1, 44100, 16000), (7, 8000, 44100), (44100, 44100, 16000)])
def test_resampling_keeps_duration_to_the_sample(length: int, source: int, target: int) -> None:
    made = resample(np.ones((2, length), np.float32), source, target)
    assert made.shape == (2, max(1, round(length * target / source)))


@pytest.mark.parametrize("channels", [0, 1, 2])
def test_flac_round_trip_is_exact_to_half_a_step_and_limits_what_is_beyond_full_scale(
    tmp_path: Path, channels: int
) -> None:
    x = np.random.default_rng(0).uniform(-0.99, 0.99, (channels, 999) if channels else 999).astype(np.float32)
    x[..., 0] = 1.5
    write_flac(tmp_path / "a.flac", x, 22050)
    audio, info = read_audio(tmp_path / "a.flac")
    assert info.sample_rate_hz == 22050
    np.testing.assert_allclose(audio[:, 1:], np.atleast_2d(x)[:, 1:], atol=0.5 / 32768 + 1e-9)
    assert audio[0, 0] == 32767 / 32768


def test_levels_equal_their_closed_forms() -> None:
    t = np.arange(16000) / 16000
    assert rms_dbfs(np.sin(2 * np.pi * 100 * t)) == pytest.approx(-3.0103, abs=1e-3)
    assert rms_dbfs(np.ones(10)) == 0.0
    assert rms_dbfs(np.zeros(10)) == -120.0


def test_loudest_window_is_the_brute_force_maximum() -> None:
    x = np.random.default_rng(1).standard_normal((2, 300)).astype(np.float32)
    energies = [float((x[:, i : i + 40].astype(np.float64) ** 2).sum()) for i in range(261)]
    best = int(np.argmax(energies))
    np.testing.assert_array_equal(loudest_window(x, 40), x[:, best : best + 40])
    assert loudest_window(x, 400) is x


@pytest.mark.parametrize("length", [1, 99, 100, 101, 250, 1000])
def test_fixed_windows_cover_every_sample_and_pad_short_clips_only(length: int) -> None:
    x = np.arange(1, length + 1, dtype=np.float32)
    windows = fixed_windows(x, 100)
    assert windows.shape == (-(-length // 100), 100)
    assert set(windows.ravel()) - {0.0} == set(x)
    assert (windows == 0).sum() == max(0, 100 - length)


def test_signal_checks_name_each_fault_and_pass_ordinary_sounds() -> None:
    rate, rng = 16000, np.random.default_rng(2)
    t = np.arange(rate) / rate
    noise = 0.2 * rng.standard_normal(rate)
    burst = noise * np.exp(-t / 0.01)
    low = np.sin(2 * np.pi * 25 * t)
    clicks = 0.01 * noise
    clicks[[3000, 7000, 9000, 12000]] = 0.9
    for sound in (noise, burst, low, tone(rate), 0.01 * low, np.sign(low) * 0.3 + 0.01 * noise):
        assert check_signal(sound.astype(np.float32), rate) == "ok"
    assert check_signal(np.full(rate, np.nan), rate) == "nan"
    assert check_signal(np.zeros(rate), rate) == "silence"
    assert check_signal(0.4 + 0.0001 * noise, rate) == "silence"
    assert check_signal(0.4 + 0.1 * noise, rate) == "dc"
    assert check_signal(np.clip(3 * low, -1, 1), rate) == "clipping"
    assert check_signal(clicks, rate) == "clicks"


def test_loudness_is_matched_by_one_gain_and_stops_at_the_peak_limit() -> None:
    x = tone(16000, level=0.1).astype(np.float32)
    louder, gain_db = match_loudness(x, rms_dbfs(x) + 6, -1.0)
    assert rms_dbfs(louder) == pytest.approx(rms_dbfs(x) + 6, abs=1e-3)
    np.testing.assert_allclose(louder, x * 10 ** (gain_db / 20), rtol=1e-5)
    limited, _ = match_loudness(x, 0.0, -1.0)
    assert 20 * np.log10(np.abs(limited).max()) == pytest.approx(-1.0, abs=1e-3)
    silent, gain_db = match_loudness(np.zeros(8, np.float32), -20.0, -1.0)
    assert gain_db == 0 and not silent.any()


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []

    def full(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            written.append(file.write(data[: len(data) // 2]))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="free some space"):
        write_flac(tmp_path / "a.flac", tone(8000), 8000)
    assert written and not list(tmp_path.iterdir())
