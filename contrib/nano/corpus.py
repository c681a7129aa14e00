"""The idea of the corpus: units of all collections, shared out by group to shards of mixed clips, one file each.

A shard that is finished is never made again. `prepare_corpus` reads the result (`source: tar`); the shards that it
holds out hold takes of no recording that is trained on. Read next: `recordings.py`, `notes.py`, `spoken.py` (the
sources), `clips.py` (windows), `wording.py` (captions), `licences.py`.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import soundfile

from common.audio.signal import pcm16
from common.corpus.shards import ShardWriter
from common.errors import ConfigError
from common.log import Progress, get_logger
from common.runtime.parallel import run_all
from common.runtime.seeding import derive_seed, numpy_generator
from common.storage import publish_file, read_json, write_json, write_text
from common.storage.hashing import hash_file, hash_json
from contrib.nano.clips import RATE_HZ, Clip, Credit, Source

VERSION = 1
"""Raised when the same settings give other clips."""
SETTINGS, CAPTIONS, CARD, LICENCES = "settings.json", "captions.jsonl", "corpus.json", "LICENCES.csv"
SHARDS = "shards"

log = get_logger("nano_corpus")


class Work(NamedTuple):
    """What to make of which sources, where."""

    sources: tuple[Source, ...]
    folder: Path
    seed: int
    shards: int

    def units(self, number: int) -> Iterator[tuple[Source, int]]:
        """Units of shard `number`, in shuffled order."""
        places = (
            (derive_seed(self.seed, source.name, group), source.name, unit, source)
            for source in self.sources
            for unit, group in enumerate(source.groups())
        )
        for _, _, unit, source in sorted(place for place in places if place[0] % self.shards == number):
            yield source, unit

    def tar(self, number: int) -> Path:
        """The clips of shard `number`."""
        return self.folder / SHARDS / f"{number:03d}.tar"

    def captions(self, number: int) -> Path:
        """Its captions, written last."""
        return self.tar(number).with_suffix(".jsonl")


def make_corpus(sources: Sequence[Source], folder: Path, seed: int, shards: int, workers: int = 1) -> dict[str, Any]:
    """Make the shards that are missing, then the captions, the list of licences and the card.

    Raises:
        ConfigError: the folder holds a corpus of other settings, or a program or package is missing.
        DataError: a recording cannot be read.

    Returns the card: files, clips and hours by collection and by licence, and the hash of each shard.
    """
    work = Work(tuple(sources), folder, seed, shards)
    _check_same(work)
    missing = [number for number in range(shards) if not work.captions(number).is_file()]
    progress = Progress(log, "shards", shards, done=shards - len(missing))
    run_all(partial(_make_shard, work), missing, workers, advance=progress.advance)
    return _finish(work)


def _check_same(work: Work) -> None:
    made_of = {source.name: hash_json(source.key()) for source in work.sources}
    settings = {"version": VERSION, "seed": work.seed, "shards": work.shards, "sources": made_of}
    file = work.folder / SETTINGS
    if file.is_file() and read_json(file) != settings:
        raise ConfigError(
            f"{work.folder} holds a corpus of other collections or settings; remove it, or name another OUT"
        )
    write_json(file, settings)


def _make_shard(work: Work, number: int) -> None:
    lines = list[dict[str, Any]]()
    with publish_file(work.tar(number)) as tar, ShardWriter(tar) as writer:
        for place, (source, clip) in enumerate(_clips(work, number)):
            key = f"{number:03d}-{place:05d}"
            writer.add(key, {"flac": _flac(clip)})
            lines += _lines(f"{key}.flac", source.name, clip)
    write_text(work.captions(number), "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines))


def _clips(work: Work, number: int) -> Iterator[tuple[Source, Clip]]:
    for source, unit in work.units(number):
        for clip in source.clips(unit, numpy_generator(work.seed, source.name, unit)):
            yield source, clip


def _lines(file: str, collection: str, clip: Clip) -> list[dict[str, Any]]:
    facts = {"label": clip.label, "collection": collection, "path": clip.path, "seconds": len(clip.audio) / RATE_HZ}
    return [{"file": file, "caption": caption, **facts} for caption in clip.captions]


def _flac(clip: Clip) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, pcm16(clip.audio), RATE_HZ, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def _finish(work: Work) -> dict[str, Any]:
    text = "".join(work.captions(number).read_text(encoding="utf-8") for number in range(work.shards))
    lines = [json.loads(line) for line in text.splitlines()]
    clips = list({line["file"]: line for line in lines}.values())
    credits = {(source.name, credit.path): credit for source in work.sources for credit in source.credits()}
    card = {
        "seed": work.seed,
        "clips": len(clips),
        "captions": len(lines),
        "hours": _hours(clips),
        "labels": len({clip["label"] for clip in clips if clip["label"]}),
        "collections": _counts(clips, lambda clip: clip["collection"]),
        "licences": _counts(clips, lambda clip: credits[_origin(clip)].family),
        "shards": {work.tar(number).name: hash_file(work.tar(number)) for number in range(work.shards)},
    }
    write_text(work.folder / CAPTIONS, text)
    write_text(work.folder / LICENCES, _credits_table(credits, Counter(map(_origin, clips))))
    write_json(work.folder / CARD, card)
    return card


def _origin(clip: dict[str, Any]) -> tuple[str, str]:
    return clip["collection"], clip["path"]


def _hours(clips: Sequence[dict[str, Any]]) -> float:
    return round(sum(float(clip["seconds"]) for clip in clips) / 3600, 2)


def _counts(clips: Sequence[dict[str, Any]], kind: Callable[[dict[str, Any]], str]) -> dict[str, dict[str, float]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for clip in clips:
        found.setdefault(kind(clip), []).append(clip)
    return {
        name: {"files": len(set(map(_origin, group))), "clips": len(group), "hours": _hours(group)}
        for name, group in sorted(found.items())
    }


def _credits_table(credits: dict[tuple[str, str], Credit], used: Counter[tuple[str, str]]) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("collection", *Credit._fields, "clips"))
    writer.writerows((origin[0], *credits[origin], count) for origin, count in sorted(used.items()))
    return table.getvalue()
