"""AudioSet clips that belong to datasets, and so stay out of the pretraining corpus."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from common.errors import DataError
from components.prepare_corpus.captions.records import youtube_id

MAX_LINE_CHARACTERS = 1 << 16
_ID_COLUMNS = ("youtube_id", "ytid", "video_id", "id", "filename", "file_name", "file", "segment_id")
_CELLS = re.compile(r"[,\t]")


class ExcludedIds:
    """A set of YouTube ids; `in` takes the id or file name of any clip.

    A whole video is excluded, whatever the start: neighbouring segments share speakers, rooms and devices.
    """

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._ids = frozenset(ids)

    @classmethod
    def read(cls, paths: Iterable[str | Path]) -> ExcludedIds:
        """The ids in CSV, TSV or text files, read line by line; the first column, or the one that a header names.

        Source of the forms: github.com/ankitshah009/Task-4-Large-scale-weakly-supervised-sound-event-detection-for-
        smart-cars at 96dc262e3869580c0ff4c4de622995a8e3573ad9: `testing_set.csv` (`-5QrBL6MzLg,60.000,70.000,…`) and
        `groundtruth_weak_label_training_set.csv` (`2ceUOv8A3FE_20.000_30.000.wav<tab>20.000…`).

        Raises:
            DataError: a file cannot be read, a row names no clip (one test clip missed is one leaked), or it is empty.
        """
        return cls(found for path in paths for found in _read(Path(path)))

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the ids, for keys of what was made without them."""
        return hashlib.sha256("\n".join(sorted(self._ids)).encode()).hexdigest()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and youtube_id(name) in self._ids

    def __len__(self) -> int:
        return len(self._ids)


def _read(path: Path) -> Iterable[str]:
    column, rows = 0, 0
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            number = 0
            while line := file.readline(MAX_LINE_CHARACTERS):
                number += 1
                # Spreadsheets turn ids that start with a dash into `#NAME?`.
                if not line.strip() or (line.startswith("#") and not line.startswith("#NAME?")):
                    continue
                cells = [cell.strip().strip('"') for cell in _CELLS.split(line)]
                names = [cell.lower() for cell in cells]
                if not rows and any(name in _ID_COLUMNS for name in names):
                    column = next(names.index(name) for name in _ID_COLUMNS if name in names)
                    continue
                rows += 1
                found = youtube_id(cells[column]) if column < len(cells) else None
                if found is None:
                    raise DataError(
                        f"{path}, line {number}: expected the id of an AudioSet clip in column {column + 1}, found "
                        f"{line.strip()!r:.80}; correct the line, or name the column in a header, such as `youtube_id`"
                    )
                yield found
    except OSError as error:
        raise DataError(f"cannot read the ids of AudioSet clips from {path}: {error.strerror or error}") from error
    if not rows:
        raise DataError(f"{path} holds no ids of AudioSet clips; remove it from corpus_ids, or give the right file")
