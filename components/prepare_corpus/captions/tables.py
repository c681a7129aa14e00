"""Streaming readers of text files in bounded memory: CSV with a header, and plain lines."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from common.errors import DataError
from components.prepare_corpus.captions.records import CaptionRow, Format, OnBad, convert

MAX_RECORD_CHARACTERS = 1 << 16
"""Limit per row; real rows have some hundreds. A longer row is never held in memory as a whole."""


class LongRecord(Exception):
    """A record of more than `MAX_RECORD_CHARACTERS`."""


class Lines:
    """Lines of an open file, also for `csv.reader`; a record that is too long is skipped and raises `LongRecord`.

    Args:
        file: opened with `newline=""`.
        comments: skip lines that start with `#` outside of a record, except `#NAME?`, which spreadsheets make of ids
            that start with a dash.

    Attributes:
        number: number of the last line read, from 1.
        in_record: number of lines read since `start_record`.
    """

    def __init__(self, file: TextIO, comments: bool = False) -> None:
        self.number = 0
        self.in_record = 0
        self._file = file
        self._comments = comments
        self._characters = 0

    def start_record(self) -> int:
        """Start a new record; returns the number of the next line."""
        self.in_record = self._characters = 0
        return self.number + 1

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        line = self._read()
        while self._comments and not self.in_record and line.startswith("#") and not line.startswith("#NAME?"):
            line = self._read()
        if not line:
            raise StopIteration
        self._characters += len(line)
        if self._characters > MAX_RECORD_CHARACTERS:
            while line and line[-1] not in "\r\n":
                line = self._file.readline(MAX_RECORD_CHARACTERS)
            raise LongRecord
        self.in_record += 1
        return line

    def _read(self) -> str:
        self.number += 1
        return self._file.readline(MAX_RECORD_CHARACTERS + 1)


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 file; invalid bytes become lone surrogates, so that they spoil only their own row.

    Raises DataError: the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield file
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from error


def unreadable(path: Path, why: str) -> DataError:
    """Error for a file that is no caption file."""
    return DataError(f"cannot read captions from {path}: {why}")


def read_lines(path: Path, on_bad: OnBad) -> Iterator[tuple[int, str]]:
    """`(line number, line)` of each non-blank line; a line that is too long goes to `on_bad`."""
    with open_text(path) as file:
        lines = Lines(file)
        while True:
            number = lines.start_record()
            try:
                line = next(lines, None)
            except LongRecord:
                on_bad(f"{path}, line {number}", _too_long())
                continue
            if line is None:
                return
            if line.strip():
                yield number, line


def read_rows(
    path: Path, on_bad: OnBad, *, comments: bool = False, spaces: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """`(line number, cells)` of each CSV record, including the header.

    Args:
        on_bad: called for a row that is too long, which is skipped.
        spaces: ignore a space after a comma.

    Raises DataError: broken quoting; the rest of the file cannot be split into records.
    """
    with open_text(path) as file:
        lines = Lines(file, comments)
        reader = csv.reader(lines, strict=True, skipinitialspace=spaces)
        while True:
            number = lines.start_record()
            try:
                cells = next(reader, None)
            except LongRecord:
                if lines.in_record:
                    raise _quoting(path, number, "a quote is not closed") from None
                on_bad(f"{path}, line {number}", _too_long())
                continue
            except csv.Error as error:
                raise _quoting(path, number, str(error)) from error
            if cells is None:
                return
            if cells:
                yield number, cells


def read_table(
    path: Path, on_bad: OnBad, required: Sequence[str], expected: str
) -> Iterator[tuple[str, dict[str, str]]]:
    """`(place, {column: cell})` of each row of a CSV with a header.

    Column names are normalised: lower case, no leading `#`, `_` for spaces. A row without the required columns, or
    with more cells than columns, goes to `on_bad`.

    Raises DataError: a required column is missing (`expected` names the columns in words), or the quoting is broken.
    """
    rows = read_rows(path, on_bad)
    columns = column_names(next(rows, (0, []))[1])
    if not set(required) <= set(columns):
        found = ", ".join(columns)[:200] or "none"
        raise unreadable(
            path, f"expected {expected} as columns, found {found}; correct the header or name another format"
        )
    for record, (line, cells) in enumerate(rows, start=1):
        where = f"{path}, record {record}, line {line}"
        values = dict(zip(columns, cells, strict=False))
        if len(cells) > len(columns):
            on_bad(
                where, f"columns: {len(cells)} cells for {len(columns)} columns; put text that holds commas in quotes"
            )
        elif not set(required) <= set(values):
            on_bad(where, f"columns: {len(cells)} cells, expected {expected}")
        else:
            yield where, values


def table_format(columns: Sequence[str], expected: str, make: Callable[[dict[str, str]], list[CaptionRow]]) -> Format:
    """Format of a CSV with a header; arguments as in `read_table` and `convert`."""

    def read(path: Path, on_bad: OnBad, seed: int) -> Iterator[CaptionRow]:
        return convert(read_table(path, on_bad, columns, expected), make, on_bad)

    return Format(read, frozenset(columns))


def column_names(cells: Sequence[str]) -> list[str]:
    """Normalised column names of a header."""
    return [" ".join(cell.lstrip("# \t").lower().split()).replace(" ", "_") for cell in cells]


def _too_long() -> str:
    return f"too_long: the row has more than {MAX_RECORD_CHARACTERS} characters"


def _quoting(path: Path, line: int, why: str) -> DataError:
    return unreadable(
        path, f"line {line}: broken quoting ({why}); put a cell that holds quotes in quotes and double those inside"
    )
