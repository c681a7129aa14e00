"""Exclusion of AudioSet and Freesound clips that belong to datasets from the pretraining corpus."""

import hashlib
import io
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Self, TextIO

from common.errors import DataError
from common.storage import open_uri
from components.prepare_corpus.captions import file_stem, youtube_id

MAX_LINE_CHARACTERS = 1 << 16
_FREESOUND_COLUMNS = ("freesound_id", "fsid", "fname", "src_file")
_ID_COLUMNS = ("youtube_id", "ytid", "video_id", "id", "filename", "file_name", "file", "segment_id")
_CELLS = re.compile(r"[,\t]")
_NUMBER = re.compile(r"[0-9]{1,9}")


class ExcludedIds:
    """Set of YouTube and Freesound ids; `in` takes the id or file name of any clip.

    A whole video is excluded, whatever the start, since neighbouring segments share speakers, rooms and devices. A
    Freesound clip is recognised by a name that is a number, as in WavCaps and FSD50K (`64760.wav`).
    """

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids = frozenset(ids)

    @classmethod
    def read(cls, paths: Iterable[str | Path]) -> Self:
        """Ids from CSV, TSV or text files, local or in an object store, read line by line.

        Ids are in the first column, or in the one that a header names. Freesound ids need a header: `fname`
        (FSD50K), `fsID` (UrbanSound8K), `src_file` (ESC-50) or `freesound_id`.

        Source of the formats: github.com/ankitshah009/Task-4-Large-scale-weakly-supervised-sound-event-detection-for-
        smart-cars at 96dc262e3869580c0ff4c4de622995a8e3573ad9: `testing_set.csv` (`-5QrBL6MzLg,60.000,70.000,…`) and
        `groundtruth_weak_label_training_set.csv` (`2ceUOv8A3FE_20.000_30.000.wav<tab>20.000…`).

        Raises:
            DataError: a file cannot be read or is empty, or a row names no clip (one test clip missed is one leaked).
        """
        return cls(found for path in paths for found in _read(str(path)))

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the ids; part of the keys of data made without them."""
        return hashlib.sha256("\n".join(sorted(self.ids)).encode()).hexdigest()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and not self.ids.isdisjoint({youtube_id(name), freesound_id(name)})


def freesound_id(name: str) -> str | None:
    """Freesound id in a name such as `64760.wav`; None if the name is no number."""
    stem = file_stem(name)
    return str(int(stem)) if _NUMBER.fullmatch(stem) else None


def _open(place: str) -> TextIO:
    if "://" in place:
        return io.TextIOWrapper(open_uri(place), encoding="utf-8-sig", errors="surrogateescape")
    return Path(place).open(encoding="utf-8-sig", errors="surrogateescape")


def _read(path: str) -> Iterable[str]:
    column, rows, id_of, kind = 0, 0, youtube_id, "an AudioSet clip"
    try:
        with _open(path) as file:
            for number, line in enumerate(iter(partial(file.readline, MAX_LINE_CHARACTERS), ""), start=1):
                # Spreadsheets turn ids that start with a dash into `#NAME?`.
                if not line.strip() or (line.startswith("#") and not line.startswith("#NAME?")):
                    continue
                cells = [cell.strip().strip('"') for cell in _CELLS.split(line)]
                names = [cell.lower() for cell in cells]
                header = [name for name in (*_FREESOUND_COLUMNS, *_ID_COLUMNS) if name in names]
                if not rows and header:
                    column = names.index(header[0])
                    if header[0] in _FREESOUND_COLUMNS:
                        id_of, kind = freesound_id, "a Freesound clip"
                    continue
                rows += 1
                found = id_of(cells[column]) if column < len(cells) else None
                if found is None:
                    raise DataError(
                        f"{path}, line {number}: expected the id of {kind} in column {column + 1}, found "
                        f"{line.strip()!r:.80}; correct the line, or name the column in a header, such as `youtube_id`"
                    )
                yield found
    except OSError as error:
        raise DataError(f"cannot read the ids of clips from {path}: {error.strerror or error}") from error
    if not rows:
        raise DataError(f"{path} holds no ids of clips; remove it from corpus_ids, or give the right file")
