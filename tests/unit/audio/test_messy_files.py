"""Files whose headers are wrong or open: all that can be decoded is, and what is lost is told."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from common.audio import file as audio_file
from common.audio.file import AudioError
from common.audio.signal import read_audio
from tests.kit.broken_audio import (
    RATE,
    SIZE_FIELDS,
    UNKNOWN_SIZES,
    container,
    encoded,
    flac_with_total,
    patched,
    unmarked_ogg,
    without_first_frame,
)


def noise(seconds: float = 1.0, seed: int = 0, channels: int = 1) -> np.ndarray:
    x = 0.3 * np.random.default_rng(seed).standard_normal((round(seconds * RATE), channels))
    return x[:, 0] if channels == 1 else x


def reads(tmp_path: Path, data: bytes) -> np.ndarray:
    (tmp_path / "a").write_bytes(data)
    return read_audio(tmp_path / "a")[0]


def fails(tmp_path: Path, data: bytes) -> str:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(AudioError) as failure:
        read_audio(tmp_path / "a")
    assert str(tmp_path / "a") in str(failure.value) and "\n" not in str(failure.value)
    return failure.value.reason


@pytest.mark.parametrize(
    ("form", "encoding"),
    [
        ("WAV", "GSM610"),
        ("WAV", "G721_32"),
        ("WAV", "NMS_ADPCM_24"),
        ("AIFF", "GSM610"),
        ("AIFF", "DWVW_16"),
        ("AU", "G723_40"),
        ("W64", "GSM610"),
        ("XI", "DPCM_16"),
    ],
)
def test_formats_that_cannot_seek_are_read_whole_and_in_part(tmp_path: Path, form: str, encoding: str) -> None:
    x = np.concatenate([noise(3) * 0.1, noise(1), noise(1) * 0.1])
    (tmp_path / "a").write_bytes(encoded(x, form, encoding, 8000 if encoding != "DPCM_16" else 44100))
    audio, info = read_audio(tmp_path / "a")
    assert audio.shape[1] >= len(x)
    loudest, _ = read_audio(tmp_path / "a", max_duration_s=16000 / info.sample_rate_hz)
    starts = range(0, audio.shape[1] - 16000, round(0.1 * info.sample_rate_hz))
    place = next(start for start in starts if np.array_equal(loudest, audio[:, start : start + 16000]))
    assert abs(place - 48000) <= 0.1 * info.sample_rate_hz


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp3_is_read_whole_whatever_its_header_says_of_its_length(tmp_path: Path, rate: int, channels: int) -> None:
    loud = noise(2, channels=channels)
    quiet = np.zeros_like(loud)
    x = np.concatenate([loud, quiet, loud, quiet, quiet])
    mp3 = encoded(x, "MP3", None, rate, bitrate_mode="VARIABLE", compression_level=0.5)
    whole = reads(tmp_path, mp3)
    assert whole.shape == (channels, len(x))
    bare = without_first_frame(mp3)
    # Without the header there is nothing to tell the padding at both ends.
    audio = reads(tmp_path, bare)
    assert len(x) <= audio.shape[1] <= len(x) + 4 * 1152
    start = _offset(audio, whole)
    np.testing.assert_allclose(audio[:, start : start + len(x)], whole, atol=1e-6)
    quiet_first = encoded(np.concatenate([quiet, x]), "MP3", None, rate, bitrate_mode="VARIABLE")
    assert reads(tmp_path, without_first_frame(quiet_first)).shape[1] >= len(x) + len(quiet)
    tag = b"ID3\x04\0\0" + bytes([0, 0, 2, 0]) + b"x" * 256
    for odd in (tag + bare, tag + tag + bare, bytes(700) + bare, tag + bytes(5000) + bare, bare + b"TAG".ljust(128)):
        np.testing.assert_array_equal(reads(tmp_path, odd), audio)
    for odd in (bytes(700) + mp3, tag + bytes(700) + mp3):
        np.testing.assert_array_equal(reads(tmp_path, odd), whole)
    for between in (b"", tag, b"TAG".ljust(128), b"APETAGEX" + b"\xff\xfb" * 3000):
        joined = reads(tmp_path, mp3 + between + mp3)
        assert joined.shape[1] >= 2 * len(x)
        np.testing.assert_array_equal(joined[:, : len(x) - 1152], whole[:, : len(x) - 1152])


def _offset(audio: np.ndarray, whole: np.ndarray) -> int:
    return next(s for s in range(4 * 1152) if np.abs(audio[:, s : s + 2000] - whole[:, :2000]).max() < 1e-6)


def test_an_mp3_of_constant_rate_without_a_header_reads_as_libsndfile_reads_it(tmp_path: Path) -> None:
    mp3 = encoded(noise(3), "MP3", None, RATE, bitrate_mode="CONSTANT", compression_level=0.2)
    (tmp_path / "a").write_bytes(without_first_frame(mp3))
    expected, _ = soundfile.read(tmp_path / "a", dtype="float32")
    np.testing.assert_array_equal(read_audio(tmp_path / "a")[0][0], expected)


def test_the_loudest_part_of_an_mp3_is_the_same_as_in_the_whole(tmp_path: Path) -> None:
    x = np.concatenate([noise(5) * 0.1, noise(2), noise(5) * 0.1])
    (tmp_path / "a").write_bytes(encoded(x, "MP3", None, RATE, bitrate_mode="VARIABLE"))
    whole, _ = read_audio(tmp_path / "a")
    part, _ = read_audio(tmp_path / "a", max_duration_s=2.0)
    assert any(np.array_equal(part, whole[:, s : s + 2 * RATE]) for s in range(4 * RATE, 6 * RATE, RATE // 10))


@pytest.mark.parametrize("stated", [-1, 0, 1, 5000, 15999, 2**63 - 1])
def test_blocks_have_their_length_whatever_the_header_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stated: int
) -> None:
    (tmp_path / "a.wav").write_bytes(encoded(noise(), "WAV"))
    monkeypatch.setattr(audio_file._Forward, "frames", property(lambda _: stated))
    with audio_file.open_audio(tmp_path / "a.wav") as file:
        assert [len(block) for block in file.blocks(6000)] == [6000, 6000, 4000]


@pytest.mark.parametrize("total", [0, 1, 5000, 15999])
def test_a_flac_is_read_whole_where_its_header_states_no_length_or_too_small_a_one(tmp_path: Path, total: int) -> None:
    flac = encoded(noise(), "FLAC")
    for data in (flac, encoded(noise(channels=2), "FLAC"), flac + b"TAG".ljust(128)):
        whole = reads(tmp_path, data)
        np.testing.assert_array_equal(reads(tmp_path, flac_with_total(data, total)), whole)
        assert read_audio(tmp_path / "a")[1].open_ended == (total == 0)
    (tmp_path / "a").write_bytes(flac_with_total(encoded(np.concatenate([noise(9) * 0.1, noise(1)]), "FLAC"), total))
    loudest, info = read_audio(tmp_path / "a", 1.0)
    assert loudest.shape == (1, RATE) and info.frames == 10 * RATE and np.abs(loudest).mean() > 0.2
    assert fails(tmp_path, flac_with_total(flac, total)[: len(flac) // 2]) == "truncated"
    assert fails(tmp_path, flac_with_total(flac, 160000)) == "truncated"


@pytest.mark.parametrize("total", [0, 4096, RATE])
def test_samples_that_look_like_the_header_of_a_flac_frame_are_samples(tmp_path: Path, total: int) -> None:
    # Frame 26 of 4,096 samples at 16 kHz, mono, 16 bit, with its checksum: as it was found in a clip.
    header = bytes([0xFF, 0xF8, 0xC5, 0x08, 0x1A, 0x29])
    # Noise of full scale is stored as it is.
    x = np.random.default_rng(0).integers(-(2**15), 2**15, RATE, np.int16)
    x[-2000:-1997] = np.frombuffer(header, ">i2")
    flac = encoded(x, "FLAC")
    assert flac.count(header) == 1
    np.testing.assert_array_equal(reads(tmp_path, flac_with_total(flac, total)), x[None] / np.float32(2**15))


@pytest.mark.parametrize("encoding", ["VORBIS", "OPUS"])
def test_an_ogg_without_an_end_mark_is_read_and_noted_and_chained_ones_are_joined(
    tmp_path: Path, encoding: str
) -> None:
    first, second = encoded(noise(seed=1), "OGG", encoding), encoded(noise(0.5, seed=2), "OGG", encoding)
    whole = reads(tmp_path, first), reads(tmp_path, second)
    np.testing.assert_array_equal(reads(tmp_path, unmarked_ogg(first)), whole[0])
    assert read_audio(tmp_path / "a")[1].open_ended
    np.testing.assert_array_equal(reads(tmp_path, first + second), np.concatenate(whole, axis=1))
    assert not read_audio(tmp_path / "a")[1].open_ended
    three = reads(tmp_path, first + second + first)
    np.testing.assert_array_equal(three, np.concatenate([*whole, whole[0]], axis=1))
    part, info = read_audio(tmp_path / "a", 2.0)
    assert part.shape == (1, 2 * RATE) and info.frames == round(2.5 * RATE)
    for junk in (bytes(300), b"TAG".ljust(128)):
        np.testing.assert_array_equal(reads(tmp_path, first + junk), whole[0])
    assert fails(tmp_path, first[:-10]) == "truncated"
    assert fails(tmp_path, first + second[: len(second) - 9]) == "truncated"
    assert fails(tmp_path, first + encoded(noise(channels=2), "OGG", encoding)) == "unreadable"


@pytest.mark.parametrize("name", SIZE_FIELDS)
def test_a_size_that_stands_for_unknown_means_to_the_end_of_the_file(tmp_path: Path, name: str) -> None:
    _, put, bits = SIZE_FIELDS[name]
    data = container(name, noise())
    whole, info = reads(tmp_path, data), read_audio(tmp_path / "a")[1]
    assert whole.shape == (1, RATE) and not info.open_ended
    for size in (0, *UNKNOWN_SIZES, *((2**63, 2**63 - 1, 2**64 - 1) if bits == 64 else ())):
        np.testing.assert_array_equal(reads(tmp_path, put(data, size)), whole, err_msg=hex(size))
        assert read_audio(tmp_path / "a")[1].open_ended


@pytest.mark.parametrize("name", SIZE_FIELDS)
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_container_cut_short_is_called_truncated(tmp_path: Path, name: str, kept: float) -> None:
    data = container(name, noise())
    assert fails(tmp_path, data[: int(kept * len(data))]) == "truncated"


def test_sizes_of_further_kinds(tmp_path: Path) -> None:
    nist = encoded(noise(), "NIST", "PCM_16")
    whole = reads(tmp_path, nist)
    for count in (b"0    ", b"-1   "):
        np.testing.assert_array_equal(reads(tmp_path, nist.replace(b"-i 16000\nend", b"-i " + count + b"\nend")), whole)
    assert fails(tmp_path, nist[: len(nist) // 2]) == "truncated"
    wav = encoded(noise(), "WAV", "PCM_16")
    chunk = b"LIST" + struct.pack("<I", 10) + b"INFOnotes!"
    no_samples = wav[: wav.find(b"data")] + b"data" + bytes(4)
    assert fails(tmp_path, no_samples + chunk) == "no_samples"
    np.testing.assert_array_equal(reads(tmp_path, wav + chunk), reads(tmp_path, wav))
    tag = b"ID3\x03\0\0" + bytes([0, 0, 0, 9]) + b"x" * 9
    np.testing.assert_array_equal(reads(tmp_path, tag + patched(wav, 40, "<I", 0x7FFFF000)), reads(tmp_path, wav))
    telephone = encoded(noise(), "WAV", "GSM610", 8000)
    place = telephone.find(b"data") + 4
    np.testing.assert_array_equal(
        reads(tmp_path, patched(telephone, place, "<I", 0x7FFF0000)), reads(tmp_path, telephone)
    )
    # Slightly too long a size is a padding byte or frame too many.
    np.testing.assert_array_equal(reads(tmp_path, patched(wav, 40, "<I", 32060)), reads(tmp_path, wav))


def test_what_is_no_regular_file_is_refused_without_opening_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "a.wav").write_bytes(encoded(noise(), "WAV"))
    (tmp_path / "link.wav").symlink_to("a.wav")
    long = tmp_path / ("bells " * 60 + ".wav")
    bad = (tmp_path / "pipe.wav", tmp_path / "folder.wav", tmp_path / "loop.wav", long, tmp_path / "nul\0.wav")
    for path in (*bad, tmp_path / "a.wav" / "b.wav", Path("/dev/null"), Path("/dev/zero")):
        with pytest.raises(AudioError) as failure:
            read_audio(path)
        assert failure.value.reason == "unreadable" and str(path) in str(failure.value)
    assert read_audio(tmp_path / "link.wav")[0].shape == (1, RATE)


@pytest.mark.parametrize("error", [ValueError("array is too big"), MemoryError(), OSError(5, "Input/output error")])
def test_whatever_decoding_raises_becomes_an_error_of_that_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    for name, data in (("read", encoded(noise(), "WAV")), ("__init__", encoded(noise(), "FLAC"))):
        with monkeypatch.context() as patch:
            patch.setattr(audio_file._Forward, name, fail)
            assert fails(tmp_path, data) == "unreadable"


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "W64", "CAF", "RF64", "NIST"])
def test_damaged_bytes_give_samples_or_an_audio_error_and_nothing_else(tmp_path: Path, form: str) -> None:
    data = encoded(noise(0.2), form)
    rng = np.random.default_rng(7)
    read = 0
    for _ in range(60):
        damaged = bytearray(data)
        for place in rng.integers(0, min(len(data), 400 if rng.random() < 0.5 else len(data)), 1 + rng.integers(6)):
            damaged[place] = rng.integers(256)
        if rng.random() < 0.3:
            del damaged[rng.integers(len(data)) :]
        (tmp_path / "a").write_bytes(damaged)
        try:
            audio, _ = read_audio(tmp_path / "a", max_duration_s=1.0)
        except AudioError:
            continue
        read += audio.shape[1] > 0
    assert read or form in ("FLAC", "OGG")  # whose checksums show every change
