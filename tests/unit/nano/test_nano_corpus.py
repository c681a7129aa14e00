"""The corpus as a whole: shards, captions, credits, what is left out, and going on after a stop."""

from __future__ import annotations

import csv
import json
import sys
import types
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile

from common.config.corpus import PrepareCorpusConfig
from common.errors import ConfigError, DataError
from common.runtime.seeding import numpy_generator
from common.storage.items import ItemStore
from components.prepare_corpus.recordings import open_recordings
from components.prepare_corpus.sources import Dropped
from contrib.nano import notes
from contrib.nano.clips import Clip
from contrib.nano.corpus import make_corpus
from contrib.nano.notes import Notes, instruments
from contrib.nano.recordings import Recordings, read_collection
from contrib.nano.spoken import Spoken
from pipelines.commands import main
from tests.unit.nano.conftest import tone, write_collection


def make(data: Path, out: Path, *options: str) -> int:
    drawn = ("--notes=0", "--words=0", "--shards=3", "--jobs=1", "--collections=corpus_16k,words_16k")
    return main(["nano-corpus", f"--data={data}", f"--out={out}", *drawn, *options])


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "captions.jsonl").read_text(encoding="utf-8").splitlines()]


def contents(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()}


def test_the_corpus_is_what_prepare_corpus_reads(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert make(data, out) == 0
    settings = PrepareCorpusConfig(
        source="tar",
        audio_dir=str(out / "shards"),
        captions_file=str(out / "captions.jsonl"),
        durations_s=(1.28,),
        sample_rate_hz=16000,
        channels=1,
    )
    store = ItemStore("prepare_corpus", "test", str(tmp_path / "store"))
    source, dropped = open_recordings(settings, 0, (), store), Dropped()
    found = [(clip.caption, clip.label) for shard in range(source.shards) for clip in source.clips(shard, dropped)]
    assert dropped.total == 0
    assert sorted(found, key=str) == sorted(((line["caption"], line["label"]) for line in lines(out)), key=str)
    assert {label for _, label in found} == {"door", "seven", "spoken dog"}


def test_takes_of_a_recording_share_a_shard_and_card_and_credits_count_the_clips(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert make(data, out, "--leave-out=none") == 0
    shards = defaultdict(set)
    for line in lines(out):
        if line["collection"] == "corpus_16k":
            shards[int(line["path"].split(".")[0]) // 2].add(line["file"].split("-")[0])
    assert len(shards) == 12
    assert all(len(found) == 1 for found in shards.values())
    assert len(set.union(*shards.values())) > 1
    card = json.loads((out / "corpus.json").read_text(encoding="utf-8"))
    assert card["collections"]["corpus_16k"] == {"files": 24, "clips": 72, "hours": 0.01}
    assert {family: counts["files"] for family, counts in card["licences"].items()} == {"CC0": 24, "generated": 10}
    with (out / "LICENCES.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 34
    assert sum(int(row["clips"]) for row in rows) == card["clips"] == 82
    assert rows[0]["attribution"] == "Ann"


@pytest.mark.parametrize(("option", "count"), [("foley8", 4), ("foley8:2", 2), ("esc50", 2), ("foley8:1 esc50", 4)])
def test_what_evaluation_needs_is_left_out(tmp_path: Path, option: str, count: int) -> None:
    rows = [{"foley8_fold": fold} for fold in ("1", "1", "2", "2", "", "", "")]
    rows[4]["source"], rows[5]["group"] = "ESC-10 / somewhere", "fs251617"
    collection = read_collection(write_collection(tmp_path / "corpus_16k", rows), option)
    assert (len(collection.rows), collection.left_out) == (7 - count, count)


def test_bad_collections_are_told(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option, told in (
        ("--collections=esc50_folds1to4_16k", "unknown collection 'esc50_folds1to4_16k'"),
        ("--collections=drums_16k", "drums_16k/metadata.csv"),
        ("--leave-out=fold 1", "LEAVE_OUT: 'fold' is unknown"),
        ("--out=", "DATA and OUT are needed"),
    ):
        assert make(data, tmp_path / "out", option) == 2
        assert told in capsys.readouterr().err
    write_collection(tmp_path / "free" / "drums_16k", [{}, {"licence": "CC BY-NC 4.0"}])
    with pytest.raises(DataError, match=r"drums_16k/1\.flac: licence 'CC BY-NC 4\.0' is refused"):
        read_collection(tmp_path / "free" / "drums_16k", "")
    (tmp_path / "free" / "drums_16k" / "metadata.csv").write_text("path,label\na,b\n", encoding="utf-8")
    with pytest.raises(DataError, match="lacks the columns group, caption, source, licence, attribution"):
        read_collection(tmp_path / "free" / "drums_16k", "")


class Stopping(Recordings):
    """A collection that stops the program at its twentieth recording."""

    read: ClassVar[list[int]] = []

    def clips(self, unit: int, rng: np.random.Generator) -> Iterator[Clip]:
        self.read.append(unit)
        if len(self.read) == 20:
            raise KeyboardInterrupt
        return super().clips(unit, rng)


def test_a_stopped_corpus_goes_on_where_it_was_and_becomes_the_same(data: Path, tmp_path: Path) -> None:
    collection = read_collection(data / "corpus_16k", "")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    make_corpus([collection], whole, seed=0, shards=3)
    slow = Stopping(collection.name, collection.folder, collection.rows, collection.families, 0)
    with pytest.raises(KeyboardInterrupt):
        make_corpus([slow], stopped, seed=0, shards=3)
    finished = sorted(file.name for file in (stopped / "shards").iterdir())
    assert finished
    assert set(contents(stopped)) < set(contents(whole))
    before = (stopped / "shards" / finished[0]).stat().st_mtime_ns
    make_corpus([collection], stopped, seed=0, shards=3)
    assert contents(stopped) == contents(whole)
    assert (stopped / "shards" / finished[0]).stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="holds a corpus of other collections or settings"):
        make_corpus([collection], stopped, seed=1, shards=3)


class Synth:
    """A stand-in for tinysoundfont: a tone while any note is held."""

    def __init__(self, samplerate: int) -> None:
        self.rate, self.held, self.programs = samplerate, list[int](), list[tuple[int, int]]()

    def sfload(self, bank: str) -> int:
        return 0

    def sfpreset_name(self, font: int, bank: int, program: int) -> str | None:
        return "kit" if program == 0 else None

    def program_select(self, channel: int, font: int, bank: int, program: int) -> None:
        self.programs.append((bank, program))

    def noteon(self, channel: int, key: int, velocity: int) -> None:
        self.held.append(key)

    def noteoff(self, channel: int, key: int) -> None:
        self.held.remove(key)

    def sounds_off(self) -> None:
        self.held.clear()

    def generate(self, frames: int) -> memoryview:
        sound = np.sin(np.arange(frames) * 0.05) * (0.1 * len(self.held))
        return memoryview(np.repeat(sound.astype(np.float32), 2)).cast("B")


def test_notes_go_through_all_instruments_and_drums_and_say_what_is_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = tmp_path / "bank.sf2"
    bank.touch()
    monkeypatch.setitem(sys.modules, "tinysoundfont", types.SimpleNamespace(Synth=Synth))
    monkeypatch.setattr(notes, "BANKS", {str(bank): "Bo"})
    source = Notes(160)
    found = [clip for unit in range(160) for clip in source.clips(unit, numpy_generator(0, unit))]
    names = [instrument.name for instrument in instruments()]
    assert len(names) == len(set(names)) == 128
    assert set(names) < {clip.label for clip in found}
    assert {"kick drum", "snare drum", "clap"} < {clip.label for clip in found}
    assert all(0.2 < len(clip.audio) / 16000 <= 1.28 for clip in found)
    captions = [caption for clip in found for caption in clip.captions]
    assert len(captions) == 160
    assert any("chord" in caption for caption in captions)
    assert any("a single low note" in caption for caption in captions)
    assert [credit.family for credit in source.credits()] == ["MIT"]


def test_what_is_not_installed_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tinysoundfont", None)
    with pytest.raises(ConfigError, match=r"requirements-nano\.txt, or NOTES=0"):
        next(Notes(1).clips(0, numpy_generator(0)))
    monkeypatch.setitem(sys.modules, "tinysoundfont", types.SimpleNamespace(Synth=Synth))
    monkeypatch.setattr(notes, "BANKS", {str(tmp_path / "none.sf2"): "Bo"})
    with pytest.raises(ConfigError, match=r"none\.sf2; apt-get install fluid-soundfont-gm"):
        next(Notes(1).clips(0, numpy_generator(0)))
    monkeypatch.setenv("PATH", str(tmp_path))
    for unit, program in ((0, "flite"), (1, "espeak-ng")):
        with pytest.raises(ConfigError, match=f"{program} is not installed; apt-get install"):
            next(Spoken(2).clips(unit, numpy_generator(0)))


def test_words_are_spoken_by_the_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "said.wav", tone(0.4), 8000)
    for program, option in (("espeak-ng", "-w"), ("flite", "-o")):
        script = f'#!/bin/sh\nwhile [ "$1" != "{option}" ]; do shift; done\ncp "{tmp_path}/said.wav" "$2"\n'
        (tmp_path / program).write_text(script, encoding="utf-8")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = [clip for unit in range(12) for clip in Spoken(12).clips(unit, numpy_generator(0, unit))]
    assert [clip.path for clip in found] == ["flite", *["espeak-ng"] * 5] * 2
    assert all(abs(len(clip.audio) / 16000 - 0.8) < 0.03 for clip in found)
    words = [str(clip.label).removeprefix("spoken ") for clip in found]
    assert len(set(words)) > 6
    assert all(
        word in caption or " ".join(word) in caption
        for word, clip in zip(words, found, strict=True)
        for caption in clip.captions
    )
