"""Readers of caption files: one module per format; all stream rows in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from common.errors import ConfigError, DataError
from components.prepare_corpus.captions import audiocaps, auto_acd, ontology, plain, sound_vecaps, wavcaps
from components.prepare_corpus.captions.records import CaptionRow, OnBad, clip_key, youtube_id
from components.prepare_corpus.captions.tables import column_names, read_rows, unreadable

__all__ = ["FORMATS", "CaptionRow", "clip_key", "detect_format", "read_captions", "youtube_id"]

FORMATS: tuple[str, ...] = ("plain", "sound_vecaps", "audiocaps", "wavcaps", "auto_acd", "ontology")

_HEADERS = {
    "plain": {"file", "caption"},
    "audiocaps": {"audiocap_id", "youtube_id", "start_time", "caption"},
    "wavcaps": {"file_name", "caption"},
    "auto_acd": {"youtube_id", "caption"},
    "sound_vecaps": {"id", "caption"},
    "ontology": {"ytid", "positive_labels"},
}


def read_captions(path: Path, format: str, on_bad: OnBad, seed: int = 0) -> Iterator[CaptionRow]:
    """Captions of a file, in the order of the file; a clip may have several.

    Args:
        path: caption file; for `ontology` AudioSet's segments CSV.
        format: one of `FORMATS`.
        on_bad: called with place and `reason_code: explanation` of each unusable row, which is skipped.
        seed: seeds the wording of captions made from the ontology.

    Raises:
        ConfigError: unknown format.
        DataError: the file is not of that format, its quoting is broken, or it holds no rows; raised while rows
            are read.
    """
    readers: dict[str, Callable[[Path, OnBad], Iterator[CaptionRow]]] = {
        "plain": plain.read,
        "sound_vecaps": sound_vecaps.read,
        "audiocaps": audiocaps.read,
        "wavcaps": wavcaps.read,
        "auto_acd": auto_acd.read,
        "ontology": partial(ontology.read, seed=seed),
    }
    if format not in readers:
        raise ConfigError(f"unknown caption format {format!r}; valid: {', '.join(FORMATS)}")
    return _not_empty(path, readers[format], on_bad)


def _not_empty(path: Path, read: Callable[[Path, OnBad], Iterator[CaptionRow]], on_bad: OnBad) -> Iterator[CaptionRow]:
    rows = 0

    def count_bad(where: str, reason: str) -> None:
        nonlocal rows
        rows += 1
        on_bad(where, reason)

    for row in read(path, count_bad):
        rows += 1
        yield row
    if not rows:
        raise DataError(f"{path} holds no captions")


def detect_format(path: Path) -> str:
    """Format of a caption file, from its suffix and its first row.

    Raises:
        DataError: the file fits none of `FORMATS`.
    """
    suffix = path.suffix.lower()
    if suffix in (".json", ".jsonl"):
        return "wavcaps" if suffix == ".json" else "plain"
    # A header may look like a comment: `# YouTube ID, caption`.
    for comments in (False, True):
        rows = read_rows(path, lambda where, reason: None, comments=comments, spaces=True)
        first = next(rows, (0, []))[1]
        columns = set(column_names(first))
        for name, required in _HEADERS.items():
            if required <= columns:
                return name
    if len(first) == 4 and youtube_id(first[0]) and first[3].startswith("/"):
        return "ontology"
    raise unreadable(
        path,
        f"its first row {', '.join(first)!r:.100} fits none of the formats {', '.join(FORMATS)}; the simplest is a CSV "
        "with the columns `file` and `caption`",
    )
