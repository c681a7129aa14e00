"""Checked clips, and bad files set aside with a reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from common.audio.signal import read_audio
from common.config.dataset import DatasetSpec, PrepareDatasetConfig
from common.contracts.base import read, write
from common.errors import DataError
from components.prepare_dataset import clips as clips_module
from components.prepare_dataset.clips import Clip
from components.prepare_dataset.dataset import Reading, check_quality, copies, read_dataset
from components.prepare_dataset.doctor import examine
from tests.kit.broken_audio import encoded, flac_with_total, patched, unmarked_ogg

Write = Callable[..., DatasetSpec]


def test_every_bad_file_has_its_reason_and_the_odd_ones_are_kept(
    tmp_path: Path, write_dataset: Write, settings: PrepareDatasetConfig
) -> None:
    x = 0.2 * np.random.default_rng(0).standard_normal(8000)
    (tmp_path / "zero.wav").write_bytes(b"")
    soundfile.write(tmp_path / "truncated.flac", x, 8000)
    (tmp_path / "truncated.flac").write_bytes((tmp_path / "truncated.flac").read_bytes()[:3000])
    soundfile.write(tmp_path / "nan.wav", np.where(np.arange(8000) == 7, np.nan, x), 8000, subtype="FLOAT")
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 8000)
    soundfile.write(tmp_path / "one.wav", x[:1], 8000)
    (tmp_path / "text.mp3").write_text("words")
    soundfile.write(tmp_path / "flac.wav", 0.5 * x, 8000, format="FLAC")
    soundfile.write(tmp_path / "eight.wav", 0.6 * x, 8000, subtype="PCM_U8")
    soundfile.write(tmp_path / "deep.wav", 0.7 * x, 48000, subtype="PCM_24")
    soundfile.write(tmp_path / "double.wav", 9.0 * x, 44100, subtype="DOUBLE")
    soundfile.write(tmp_path / "six.wav", np.stack([x * (c + 1) / 6 for c in range(6)], axis=1), 8000)
    soundfile.write(tmp_path / "long.wav", np.concatenate([np.zeros(80 * 8000), x]), 8000)
    bad = ["zero.wav", "truncated.flac", "nan.wav", "silent.wav", "one.wav", "text.mp3"]
    odd = ["flac.wav", "eight.wav", "deep.wav", "double.wav", "six.wav", "long.wav"]
    spec = write_dataset([(name, "ab"[i % 2]) for i, name in enumerate([*bad, *odd])])
    assert spec.labels is not None
    spec.labels.write_text(spec.labels.read_text() + "absent.wav,a\n")
    folder = tmp_path / "stored"
    folder.mkdir()
    reading = read_dataset(spec, settings, folder, 2)
    assert {drop.source: drop.reason for drop in reading.dropped} == {
        "zero.wav": "empty_file",
        "truncated.flac": "truncated",
        "nan.wav": "nan",
        "silent.wav": "silent",
        "one.wav": "too_short",
        "text.mp3": "no_audio",
        "absent.wav": "missing_file",
    }
    kept = {clip.source: clip for clip in reading.clips}
    assert list(kept) == odd
    assert sorted(path.stem for path in folder.iterdir()) == sorted(clip.clip_id for clip in kept.values())
    assert kept["flac.wav"].notes == ("suffix_mismatch",)
    assert "scaled_down" in kept["double.wav"].notes and "cut" in kept["long.wav"].notes
    assert kept["long.wav"].duration_s == settings.max_duration_s
    assert (kept["six.wav"].file_channels, kept["deep.wav"].encoding) == (6, "PCM_24")
    audio, info = read_audio(folder / f"{kept['deep.wav'].clip_id}.flac")
    assert (audio.shape, info.sample_rate_hz) == ((1, round(8000 / 6)), 8000)
    assert np.abs(read_audio(folder / f"{kept['double.wav'].clip_id}.flac")[0]).max() <= 1
    write(tmp_path / "reading.json", reading)
    assert read(Reading, tmp_path / "reading.json") == reading


def test_clips_that_are_all_silent_name_the_setting(
    tmp_path: Path, write_dataset: Write, settings: PrepareDatasetConfig
) -> None:
    spec = write_dataset([(f"{n}.wav", "ab"[n % 2]) for n in range(8)])
    for n in range(8):
        soundfile.write(tmp_path / f"{n}.wav", 6e-4 * np.sin(np.arange(8000) * (n + 1) / 9), 8000, subtype="PCM_24")
    reading = read_dataset(spec, settings, None, 1)
    with pytest.raises(
        DataError, match=r"none of the 8 .* silent: nothing above -60 dBFS; lower prepare_dataset\.silence"
    ):
        check_quality(reading, settings)
    quiet = settings.model_copy(update={"silence_dbfs": -80.0})
    assert len(read_dataset(spec, quiet, None, 1).clips) == 8


def test_files_of_an_open_length_are_kept_with_a_note_and_paths_that_cannot_be_opened_are_named(
    tmp_path: Path, write_dataset: Write, settings: PrepareDatasetConfig
) -> None:
    x = 0.2 * np.random.default_rng(0).standard_normal(8000)
    wav = encoded(x, "WAV", "PCM_16", 8000)
    (tmp_path / "pipe.wav").write_bytes(patched(wav, 40, "<I", 0x7FFFF000))
    (tmp_path / "power.wav").write_bytes(patched(encoded(0.5 * x, "WAV", "PCM_16", 8000), 40, "<I", 0))
    (tmp_path / "stream.flac").write_bytes(flac_with_total(encoded(x, "FLAC", None, 8000), 0))
    (tmp_path / "radio.ogg").write_bytes(unmarked_ogg(encoded(x, "OGG", None, 8000)))
    (tmp_path / "call.wav").write_bytes(encoded(x, "WAV", "GSM610", 8000))
    soundfile.write(tmp_path / "wide.wav", np.stack([x, -0.8 * x], axis=1), 8000)
    soundfile.write(tmp_path / "opposite.wav", np.stack([x, -x], axis=1), 8000)
    os.mkfifo(tmp_path / "fifo.wav")
    kept = ["pipe.wav", "power.wav", "stream.flac", "radio.ogg", "call.wav", "wide.wav", "opposite.wav"]
    bad = ["fifo.wav", "call.wav/inside.wav"]
    spec = write_dataset([(name, "ab"[i % 2]) for i, name in enumerate(kept)])
    assert spec.labels is not None
    long = "bells " * 60 + ".wav"
    spec.labels.write_text(spec.labels.read_text() + "".join(f"{name},a\n" for name in [*bad, long]))
    reading = read_dataset(spec, settings, None, 2)
    assert {drop.source: drop.reason for drop in reading.dropped} == dict.fromkeys([*bad, long], "unreadable")
    assert {clip.source: "open_ended" in clip.notes for clip in reading.clips} == {
        name: name not in ("call.wav", "wide.wav", "opposite.wav") for name in kept
    }
    assert [clip.source for clip in reading.clips if "channels_cancel" in clip.notes] == ["wide.wav", "opposite.wav"]


def test_a_rate_too_low_for_sound_is_noted(
    write_dataset: Write, settings: PrepareDatasetConfig, tmp_path: Path
) -> None:
    for rate in (100, 3999, 4000):
        soundfile.write(tmp_path / f"{rate}.wav", 0.1 * np.random.default_rng(rate).standard_normal(rate), rate)
    reading = read_dataset(write_dataset([("100.wav", "a"), ("3999.wav", "b"), ("4000.wav", "a")]), settings, None, 1)
    assert [clip.source for clip in reading.clips if "low_rate" in clip.notes] == ["100.wav", "3999.wav"]


@pytest.mark.parametrize(
    ("form", "suffixes"),
    [
        ("WAV", ("wav", "wave", "bwf")),
        ("WAVEX", ("wav",)),
        ("RF64", ("rf64", "wav")),
        ("W64", ("w64",)),
        ("FLAC", ("flac",)),
        ("OGG", ("ogg", "oga")),
        ("MP3", ("mp3", "mpga", "mp2")),
        ("AIFF", ("aif", "aiff", "aifc")),
        ("AU", ("au", "snd")),
        ("CAF", ("caf",)),
        ("NIST", ("sph", "nist")),
        ("VOC", ("voc",)),
    ],
)
def test_the_usual_suffixes_of_a_format_are_no_oddity(
    tmp_path: Path, write_dataset: Write, settings: PrepareDatasetConfig, form: str, suffixes: tuple[str, ...]
) -> None:
    names = [f"{number}.{suffix}" for number, suffix in enumerate((*suffixes, "txt"))]
    for name in names:
        (tmp_path / name).write_bytes(encoded(0.2 * np.random.default_rng(0).standard_normal(8000), form))
    reading = read_dataset(write_dataset([(name, "ab"[i % 2]) for i, name in enumerate(names)]), settings, None, 1)
    assert {clip.source for clip in reading.clips if "suffix_mismatch" in clip.notes} == {names[-1]}


@pytest.mark.parametrize("error", [ValueError("odd\nthing"), MemoryError(), ZeroDivisionError("division by zero")])
@pytest.mark.parametrize("place", ["read_audio", "check_signal", "resample"])
def test_whatever_goes_wrong_with_one_file_leaves_out_that_clip_alone(
    write_dataset: Write, settings: PrepareDatasetConfig, monkeypatch: pytest.MonkeyPatch, place: str, error: Exception
) -> None:
    spec = write_dataset([(f"{i}.wav", "xy"[i % 2]) for i in range(4)])
    real, calls = getattr(clips_module, place), []

    def sometimes(*args: object) -> object:
        calls.append(args)
        if len(calls) == 2:
            raise error
        return real(*args)

    monkeypatch.setattr(clips_module, place, sometimes)
    reading = read_dataset(spec, settings, None, 1)
    assert [clip.source for clip in reading.clips] == ["0.wav", "2.wav", "3.wav"]
    (drop,) = reading.dropped
    assert (
        (drop.source, drop.reason) == ("1.wav", "unreadable") and "1.wav: " in drop.detail and "\n" not in drop.detail
    )


def test_clip_ids_come_from_paths_and_not_from_content(
    tmp_path: Path, write_dataset: Write, settings: PrepareDatasetConfig
) -> None:
    spec = write_dataset([("a.wav", "x"), ("b.wav", "y")])
    before = {clip.source: clip.clip_id for clip in read_dataset(spec, settings, None, 1).clips}
    (tmp_path / "a.wav").write_bytes((tmp_path / "b.wav").read_bytes())
    reading = read_dataset(spec, settings, None, 1)
    assert {clip.source: clip.clip_id for clip in reading.clips} == before and len(set(before.values())) == 2
    assert [[clip.source for clip in clips] for clips in copies(reading.clips)] == [["a.wav", "b.wav"]]


@pytest.mark.parametrize(("bad", "total", "fails"), [(1, 20, False), (2, 20, True), (5, 19, False), (2, 40, False)])
def test_more_than_a_twentieth_of_bad_clips_stops_from_twenty_clips_on_and_names_them(
    tmp_path: Path, write_dataset: Write, settings: PrepareDatasetConfig, bad: int, total: int, fails: bool
) -> None:
    for number in range(bad):
        (tmp_path / f"bad{number}.wav").write_bytes(b"")
    names = [f"bad{number}.wav" for number in range(bad)] + [f"{number}.wav" for number in range(total - bad)]
    reading = read_dataset(write_dataset([(n, "xy"[i % 2]) for i, n in enumerate(names)]), settings, None, 1)
    if not fails:
        check_quality(reading, settings)
        return
    with pytest.raises(DataError, match=r"2 of 20 clips \(10.0%\).*bad0.wav \(empty_file\); bad1.wav \(empty_file\)"):
        check_quality(reading, settings)
    check_quality(reading, settings.model_copy(update={"max_bad_fraction": 0.1}))


def test_workers_do_not_change_the_result(write_dataset: Write, settings: PrepareDatasetConfig) -> None:
    spec = write_dataset([(f"{i}.wav", "xy"[i % 2]) for i in range(30)])
    assert read_dataset(spec, settings, None, 1) == read_dataset(spec, settings, None, 8)


def test_two_channels_are_kept_when_asked_for(
    tmp_path: Path, write_dataset: Write, settings: PrepareDatasetConfig
) -> None:
    soundfile.write(tmp_path / "s.wav", np.random.default_rng(0).uniform(-0.5, 0.5, (4000, 2)), 8000)
    spec = write_dataset([("s.wav", "x"), ("m.wav", "y")])
    folder = tmp_path / "stored"
    folder.mkdir()
    clips = read_dataset(spec, settings.model_copy(update={"channels": 2}), folder, 1).clips
    assert [read_audio(folder / f"{clip.clip_id}.flac")[0].shape[0] for clip in clips] == [2, 1]


def test_the_doctor_tells_what_a_run_would_meet(
    tmp_path: Path, write_dataset: Write, settings: PrepareDatasetConfig
) -> None:
    rows = [(f"{i}.wav", "xy"[i % 2], "test" if i < 10 else "train", f"s{i % 3}") for i in range(50)]
    good = examine(write_dataset(rows, "path,label,split,group"), settings, n=20)
    assert good.ok and "groups_shared" in good.health.warning_codes
    text = good.to_text()
    assert "8000 Hz 50" in text and "train 20, val 20, test 10" in text and "verdict    ready" in text
    assert good.to_dict()["ok"] is True
    for number in range(5):
        (tmp_path / f"{number + 20}.wav").write_bytes(b"")
    bad = examine(write_dataset(rows, "path,label,split,group"), settings, n=500)
    assert not bad.ok and len(bad.problems) == 2
    assert "5 of 50 clips" in bad.to_text() and "n=500" in bad.to_text() and "20.wav: empty_file" in bad.to_text()


def test_a_clip_with_facts_is_a_clip(write_dataset: Write, settings: PrepareDatasetConfig) -> None:
    clip = read_dataset(write_dataset([("a.wav", "x"), ("b.wav", "y")]), settings, None, 1).clips[0]
    assert isinstance(clip, Clip) and clip.duration_s == clip.file_duration_s == 0.2 and clip.file_rate_hz == 8000
