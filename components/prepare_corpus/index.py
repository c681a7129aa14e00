"""Captions of recordings joined with their audio in a file of sorted rows; memory never holds a list of all clips.

Captions and audio file names go into one table, which SQLite sorts on disk by a seeded hash of the join key; groups of
equal keys are then read in one pass. The cost per row is that of sorting. The hash also shuffles: caption files are
often sorted by label, and unshuffled only the last label would be held out.
"""

import hashlib
import posixpath
import sqlite3
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from common.audio.walk import Found
from common.errors import DataError
from components.prepare_corpus.captions import CaptionRow, OnBad, clip_key
from components.prepare_corpus.sources import Dropped, Survey

_FAST = "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-8192;"
_SURVEY = TypeAdapter(Survey)
_SELECT = "SELECT clip, file, caption, label FROM rows"
_AUDIO, _LOST, _CAPTION = 0, 1, 2
"""Kinds of entries; a lost file has its reason as label and the details as caption."""


class IndexRow(NamedTuple):
    """A caption of clip number `clip` with audio `file`; for tar shards `file` may differ in its folder, or be None."""

    clip: int
    file: str | None
    caption: str
    label: str | None


class _Entry(NamedTuple):
    hash: int
    key: str
    kind: int
    file: str | None
    caption: str | None
    label: str | None


@dataclass(frozen=True)
class CaptionIndex:
    """A finished index; every call opens the file, so the object can be passed to other processes."""

    path: Path

    def survey(self) -> Survey:
        """Counts made when the index was built."""
        return _SURVEY.validate_json(self._one("SELECT value FROM facts"))

    def clips(self) -> int:
        """Number of clips."""
        return int(self._one("SELECT COALESCE(MAX(clip) + 1, 0) FROM rows"))

    def rows(self) -> int:
        """Number of captions."""
        return int(self._one("SELECT COUNT(*) FROM rows"))

    def between(self, first: int, last: int) -> list[IndexRow]:
        """Captions of clips `first` to `last` (exclusive), clip by clip."""
        with self._connected() as database:
            return _rows(database, "clip >= ? AND clip < ?", first, last)

    def captions(self) -> Iterator[IndexRow]:
        """All captions, clip by clip."""
        with self._connected() as database:
            yield from map(IndexRow._make, database.execute(f"{_SELECT} ORDER BY rowid"))

    @contextmanager
    def lookup(self, seed: int) -> Iterator[Callable[[str], list[IndexRow]]]:
        """Captions by the name of an audio file in a tar; one that names a file must name this one, and no other."""
        with self._connected() as database:

            def captions_of(name: str) -> list[IndexRow]:
                key, own = _written_one_way(clip_key(name)), f"/{_written_one_way(name)}"
                files = [
                    (own if row.file is None else f"/{_written_one_way(row.file)}", row)
                    for row in _rows(database, "hash = ? AND key = ?", order(seed, key), key)
                ]
                if whole := [row for file, row in files if own.endswith(file)]:
                    return whole
                # The folder of the captions is not that of the tar, and must be one: clips of several may share a name.
                alike = [(file, row) for file, row in files if posixpath.basename(file) == posixpath.basename(own)]
                return [row for _, row in alike] if len({file for file, _ in alike}) == 1 else []

            yield captions_of

    def _one(self, sql: str) -> Any:
        with self._connected() as database:
            return database.execute(sql).fetchone()[0]

    def _connected(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True))


def _rows(database: sqlite3.Connection, where: str, *values: int | str) -> list[IndexRow]:
    return [*map(IndexRow._make, database.execute(f"{_SELECT} WHERE {where} ORDER BY rowid", values))]


def order(seed: int, key: str) -> int:
    """Seeded 64-bit hash of a key; sorting by it shuffles."""
    digest = hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def build_index(
    path: Path,
    rows: Callable[[OnBad], Iterable[CaptionRow]],
    excluded: Callable[[str], bool],
    seed: int,
    *,
    root: str,
    files: Callable[[], Iterable[Found]] | None,
) -> None:
    """Write the index, completely or not at all.

    Args:
        rows: caption rows; called with a callback for unusable captions.
        excluded: whether the clip of an id or a file name is excluded.
        root: folder or prefix of the audio; a caption that names a file outside of it is dropped.
        files: audio files, relative to `root`, and lost ones; None if captions are joined later, as with tar shards.
    """
    builder = _Builder(excluded, seed, root, joined=files is not None)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".index.") as folder:
        unsorted, final = Path(folder) / "unsorted.sqlite", Path(folder) / "index.sqlite"
        with closing(sqlite3.connect(unsorted)) as source, closing(sqlite3.connect(final)) as target:
            source.executescript(
                _FAST
                + "CREATE TABLE entries (hash INTEGER, key TEXT, kind INTEGER, file TEXT, caption TEXT, label TEXT)"
            )
            insert = "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)"
            source.executemany(insert, builder.captions(rows(builder.bad)))
            source.executemany(insert, builder.files(files() if files is not None else ()))
            source.commit()
            target.executescript(
                _FAST
                + "CREATE TABLE rows (hash INTEGER, key TEXT, clip INTEGER, file TEXT, caption TEXT, label TEXT);"
                + "CREATE TABLE facts (value TEXT)"
            )
            entries = source.execute("SELECT * FROM entries ORDER BY hash, key, kind, file, rowid")
            target.executemany(
                "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?)", builder.numbered(map(_Entry._make, entries))
            )
            # Rows are sorted by both columns, so both indices are written from front to back.
            target.executescript("CREATE INDEX by_clip ON rows (clip); CREATE INDEX by_hash ON rows (hash)")
            target.execute("INSERT INTO facts VALUES (?)", (builder.facts(),))
            target.commit()
        final.replace(path)


class _Builder:
    """Entries of captions and files, their join, and the counts of both."""

    def __init__(self, excluded: Callable[[str], bool], seed: int, root: str, *, joined: bool) -> None:
        self._is_excluded, self._seed, self._root, self._joined = excluded, seed, root, joined
        self._captions = self._excluded = 0
        self._dropped, self._captions_name_files = Dropped(), False

    def bad(self, where: str, reason: str) -> None:
        self._captions += 1
        self._dropped.add(reason.partition(":")[0], f"{where}: {reason}")

    def facts(self) -> str:
        return _SURVEY.dump_json(Survey(self._captions, self._dropped, self._excluded)).decode()

    def captions(self, rows: Iterable[CaptionRow]) -> Iterator[_Entry]:
        for row in rows:
            self._captions += 1
            if self._is_excluded(row.clip_id) or (row.file is not None and self._is_excluded(row.file)):
                self._excluded += 1
                continue
            file = None if row.file is None else self._inside(row.file)
            if row.file is not None and file is None:
                reason = f"the captions name {row.file!r:.200}, which lies outside {self._root}"
                self._dropped.add("outside", reason)
                continue
            key = clip_key(file or row.clip_id)
            if self._joined and file is not None:
                self._captions_name_files, key = True, file
            yield self._entry(key, _CAPTION, file, row.caption, row.label)

    def files(self, files: Iterable[Found]) -> Iterator[_Entry]:
        for found in files:
            if found.reason == "unreadable_folder" or (
                found.reason == "broken_link" and not posixpath.splitext(found.source)[1]
            ):
                self._dropped.add(found.reason, f"{found.source}: {found.detail}")
            elif found.reason != "same_folder":
                # The stem of a format that cannot be read is that of the clip as well.
                name = posixpath.splitext(found.source)[0] + ".wav" if found.reason else found.source
                key = found.source if self._captions_name_files else clip_key(name)
                detail, reason = (f"{found.source}: {found.detail}", found.reason) if found.reason else (None, None)
                yield self._entry(key, _LOST if reason else _AUDIO, found.source, detail, reason)

    def _entry(self, key: str, kind: int, file: str | None, caption: str | None, label: str | None) -> _Entry:
        key = _written_one_way(key)
        return _Entry(order(self._seed, key), key, kind, file, caption, label)

    def _inside(self, file: str) -> str | None:
        if posixpath.isabs(file) and "://" not in self._root:
            file = posixpath.relpath(file, posixpath.abspath(self._root))
        file = posixpath.normpath(file.replace("\\", "/"))
        return None if file.startswith(("../", "/")) or file == ".." else file

    def numbered(self, entries: Iterable[_Entry]) -> Iterator[tuple[int, str, int, str | None, str, str | None]]:
        clip = 0
        for (number, key), group in groupby(entries, key=lambda entry: (entry.hash, entry.key)):
            files: list[str | None] = []
            seen: set[tuple[str | None, str | None]] = set()
            expected = "; captions name files by their path from there, with the suffix" * self._captions_name_files
            lost = "absent_audio", f"there is no audio for {key!r:.200} in {self._root}{expected}"
            for entry in group:
                if entry.kind == _AUDIO:
                    files.append(entry.file)
                    continue
                if entry.kind == _LOST:
                    lost = str(entry.label), str(entry.caption)
                    continue
                if self._joined and not files:
                    self._dropped.add(*lost)
                    continue
                # Several files of one clip hold the same sound; only the first is used.
                file = files[0] if self._joined else entry.file
                if (file, entry.caption) in seen:
                    self._dropped.add("duplicate", f"{key!r:.200} has the caption {entry.caption!r:.60} twice")
                    continue
                seen.add((file, entry.caption))
                yield number, key, clip, file, str(entry.caption), entry.label
            clip += bool(seen)


def _written_one_way(name: str) -> str:
    """`name` in NFC, with `/` for `\\` and its suffix in lower case, in which lists and file systems differ."""
    stem, suffix = posixpath.splitext(unicodedata.normalize("NFC", name.replace("\\", "/")))
    return stem + suffix.lower()


def listing_digest(files: Iterable[Found]) -> str:
    """Digest of names and reasons, independent of their order."""
    total = 0
    for found in files:
        total = (total + int.from_bytes(hashlib.sha256("\0".join(found).encode()).digest())) % 2**256
    return f"{total:064x}"


def check_clips(index: CaptionIndex, where: str, others: int = 0) -> None:
    """Fail if the index has no clips, or only one and there are no `others`. Raises DataError."""
    if not index.clips():
        survey = index.survey()
        counts = dict(survey.dropped.counts) | {"excluded": survey.excluded}
        raise DataError(
            f"{where}: none of {survey.captions} captions can be used {counts}; {survey.dropped.examples[:3]}"
        )
    if index.clips() + others < 2:
        raise DataError(f"{where} names one clip; at least two are needed, so that one can be held out: add clips")
