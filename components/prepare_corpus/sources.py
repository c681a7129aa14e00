"""Where corpus clips come from: one function per source, each giving any clip by its number."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.audio import check_signal, loudest_window, read_audio, resample, to_mono
from common.config.corpus import PrepareCorpusConfig
from common.errors import ConfigError, DataError
from common.procedural.captions import write_caption
from common.procedural.clips import CLASSES, render_clip
from common.seeding import numpy_generator

MAX_CAPTION_CHARACTERS = 500


class SourceClip(NamedTuple):
    """A clip before encoding; `audio` is `(C, T)` float32 at the corpus's rate."""

    audio: np.ndarray
    caption: str
    label: str | None


class CaptionRow(NamedTuple):
    """A row of a caption file; `file` is relative to the audio root."""

    file: str
    caption: str
    label: str | None


@dataclass(frozen=True)
class Source:
    """Clips by number, 0 to `clips` - 1; picklable."""

    config: PrepareCorpusConfig
    seed: int
    clips: int
    rows: tuple[CaptionRow, ...] = ()

    def read(self, index: int) -> SourceClip:
        """Clip `index`.

        Raises:
            DataError: it cannot be used.
        """
        if self.rows:
            return _from_file(self.config, self.rows[index])
        return _procedural(self.config, self.seed, index)

    def key(self, first: int, last: int) -> dict[str, Any]:
        """All that clips `first` to `last` (exclusive) are made from, as JSON values."""
        names = {"source", "audio_dir", "durations_s", "sample_rate_hz", "channels"}
        settings = self.config.model_dump(mode="json", include=names)
        rows = [list(row) for row in self.rows[first:last]]
        return {
            "settings": settings,
            "seed": self.seed,
            "clips": [first, last],
            "rows": rows,
            "files": self._versions(first, last),
        }

    def _versions(self, first: int, last: int) -> list[list[str | int]]:
        root = Path(self.config.audio_dir or ".")
        found: list[list[str | int]] = []
        for row in self.rows[first:last]:
            path = root / row.file
            status = path.stat() if path.is_file() else None
            found.append([row.file, status.st_size if status else -1, status.st_mtime_ns if status else -1])
        return found


def open_source(config: PrepareCorpusConfig, seed: int) -> Source:
    """The source that `config` names.

    Raises:
        ConfigError: the folder source lacks its paths.
        DataError: the caption file cannot be read.
    """
    if config.source == "procedural":
        return Source(config, seed, config.clips)
    if not config.audio_dir or not config.captions_file:
        raise ConfigError(
            "prepare_corpus: source is `folder`, but audio_dir and captions_file are not set; for example "
            "OVERRIDES='prepare_corpus.audio_dir=/data/audioset prepare_corpus.captions_file=/data/captions.csv'"
        )
    rows = read_captions(Path(config.captions_file))
    # Caption files are often sorted by label: unshuffled, the last label alone would be held out.
    order = numpy_generator(seed, "corpus order").permutation(len(rows))
    return Source(config, seed, len(rows), tuple(rows[index] for index in order))


def _procedural(config: PrepareCorpusConfig, seed: int, index: int) -> SourceClip:
    rng = numpy_generator(seed, "corpus", index)
    # Labels go round, so that every shard holds all of them.
    label = CLASSES[index % len(CLASSES)]
    duration_s = float(rng.choice(np.array(config.durations_s)))
    clip = render_clip(label, rng, duration_s, config.sample_rate_hz)
    return SourceClip(_channels(clip.audio, config.channels), write_caption(label, rng, clip.attributes), label)


def _from_file(config: PrepareCorpusConfig, row: CaptionRow) -> SourceClip:
    root = Path(config.audio_dir or ".").resolve()
    path = (root / row.file).resolve()
    if root not in path.parents:
        raise DataError(f"caption file names {row.file!r}, which lies outside {root}")
    audio, rate = read_audio(path)
    reason = check_signal(audio, rate)
    if reason != "ok":
        raise DataError(f"{path}: {reason}")
    audio = resample(to_mono(audio) if config.channels == 1 else audio, rate, config.sample_rate_hz)
    longest = round(max(config.durations_s) * config.sample_rate_hz)
    return SourceClip(_channels(loudest_window(audio, longest), config.channels), row.caption, row.label)


def _channels(audio: np.ndarray, channels: int) -> np.ndarray:
    audio = np.atleast_2d(audio)
    return audio[:channels] if len(audio) >= channels else np.repeat(audio[:1], channels, axis=0)


def read_captions(path: Path) -> list[CaptionRow]:
    """Rows of a caption file: CSV or JSONL with `file`, `caption` and optionally `label`.

    Raises:
        DataError: the file is missing, lacks a column, or a caption is empty or too long.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        records = (
            [json.loads(line) for line in text.splitlines() if line.strip()]
            if path.suffix == ".jsonl"
            else list(csv.DictReader(text.splitlines(), strict=True))
        )
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read captions from {path}: {error}; expected CSV or JSONL in UTF-8") from error
    rows = []
    for number, record in enumerate(records, start=1):
        file, caption = record.get("file"), " ".join(str(record.get("caption") or "").split())
        if not file or not caption or len(caption) > MAX_CAPTION_CHARACTERS:
            raise DataError(
                f"{path}, record {number}: expected `file` and a `caption` of 1 to {MAX_CAPTION_CHARACTERS} "
                f"characters, found file={file!r:.60} caption={caption!r:.60}"
            )
        rows.append(CaptionRow(str(file), caption.lower(), record.get("label") or None))
    if not rows:
        raise DataError(f"{path} holds no captions")
    return rows
