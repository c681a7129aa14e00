"""Caption files: their rows, the checks of every caption, and streaming readers of text and tables.

The formats are the modules of `components.prepare_corpus.formats`. Memory holds one row at a time.
"""

import csv
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self, TextIO, TypeVar

from common.audio.walk import AUDIO_SUFFIXES, is_text
from common.datasets.labelled import delimiter
from common.datasets.labels import stands_for_no_value
from common.errors import DataError
from common.registered import member, names

MAX_CAPTION_CHARACTERS = 500
MAX_LABEL_CHARACTERS = 200
MAX_FILE_CHARACTERS = 1024
MAX_RECORD_CHARACTERS = 1 << 16
"""Limit per row; real rows have some hundreds. A longer row is never held in memory as a whole."""

OnBad = Callable[[str, str], None]
"""Callback with the place of an unusable row and `reason_code: explanation`; the row is skipped."""

_YOUTUBE_ID = re.compile(r"Y?([A-Za-z0-9_-]{11})(?:_\d+(?:\.\d+)?){0,2}")
_BIDI_CONTROLS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_LAST_START_S = 10**6

Record = TypeVar("Record")
Item = TypeVar("Item", str, list[str])


class CaptionRow(NamedTuple):
    """A caption of one clip; a clip may have several.

    Attributes:
        clip_id: `YouTubeID` or `YouTubeID_start` with the start in milliseconds, as in AudioSet's strong labels;
            otherwise the stem of the file. Compare ids by `clip_key`.
        file: path relative to the audio root, if the format names one.
        caption: 1 to `MAX_CAPTION_CHARACTERS` characters on one line, lower case.
        label: the class, if the format names a single one.
    """

    clip_id: str
    file: str | None
    caption: str
    label: str | None


class Format(NamedTuple):
    """How caption files of one format are read, and told from others.

    Attributes:
        read: file, callback and seed (of the wording of weak captions) to the captions, in the order of the file.
        suffixes: of files that are of this format whatever they hold.
        beside: files that are read with it.
        starts: whether a first row that is no header is of this format.
    """

    read: Callable[[Path, OnBad, int], Iterator[CaptionRow]]
    columns: frozenset[str]
    suffixes: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    starts: Callable[[Sequence[str]], bool] = lambda cells: False


class BadRow(Exception):
    """An unusable row; the message is `reason_code: explanation`."""

    def __init__(self, reason: str, explanation: str) -> None:
        super().__init__(f"{reason}: {explanation}")


def formats() -> dict[str, Format]:
    """Every caption format by name."""
    return {
        name: member("components.prepare_corpus.formats", name).FORMAT
        for name in names("components.prepare_corpus.formats")
    }


def read_captions(path: Path, format: str, on_bad: OnBad, seed: int = 0) -> Iterator[CaptionRow]:
    """Captions of a file, in its order.

    Raises DataError: the file is not of that format, its quoting is broken, or it holds no rows.
    """
    rows = 0

    def count_bad(where: str, reason: str) -> None:
        nonlocal rows
        rows += 1
        on_bad(where, reason)

    for row in formats()[format].read(path, count_bad, seed):
        rows += 1
        yield row
    if not rows:
        raise DataError(f"{path} holds no captions")


def detect_format(path: Path) -> str:
    """Format of a caption file, from its suffix or its first row.

    Of several formats whose columns it has, the project's own comes first, then the one with most columns.

    Raises DataError: the file fits none of `formats`.
    """
    known = formats()
    for name, each in known.items():
        if path.suffix.lower() in each.suffixes:
            return name
    # A header may look like a comment: `# YouTube ID, caption`.
    for comments in (False, True):
        rows = read_rows(path, lambda where, reason: None, comments=comments)
        first = next(rows, (0, []))[1]
        fitting = [name for name, each in known.items() if each.columns <= {*map(column, first)} or each.starts(first)]
        if fitting:
            return max(fitting, key=lambda name: (name == "plain", len(known[name].columns)))
    row = f"its first row {', '.join(first)!r:.100} fits none of the formats {', '.join(known)}"
    found = row if all(map(is_text, first)) else "it is no text in UTF-8"
    raise unreadable(path, f"{found}; the simplest is a CSV with the columns `file` and `caption`, in UTF-8")


def youtube_id(name: str) -> str | None:
    """11-character YouTube id in the name of an AudioSet clip or its file; None if there is none.

    Forms: `ID`, `YID` (PANNs and WavCaps), `ID_30000` (strong labels, ms), `ID_30.000_40.000` (DCASE 2017), each with
    or without an audio suffix. The `Y` is never ambiguous, since an id always has 11 characters.
    """
    match = _YOUTUBE_ID.fullmatch(file_stem(name))
    return match[1] if match else None


def file_stem(name: str) -> str:
    """Last part of a path without its audio suffix; other dots are kept, as in `ID_30.000_40.000.wav`."""
    last = name.replace("\\", "/").rpartition("/")[2]
    stem, dot, suffix = last.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in AUDIO_SUFFIXES else last


def clip_key(name: str) -> str:
    """Join key of captions and audio: the YouTube id in `name`, else its stem."""
    return youtube_id(name) or file_stem(name)


def clean_caption(text: str) -> str:
    """`text` in lower case with white space folded; what tools write for a missing value, such as `nan`, is empty.

    A caption with an inner line break is refused, not folded: it is mostly two captions, or the end of an unclosed
    quote.

    Raises BadRow: empty, multi_line, control_characters, not_utf8 or too_long.
    """
    text = text.strip()
    if not text or stands_for_no_value(text):
        raise _bad("empty", text)
    if len(text.splitlines()) > 1:
        raise _bad("multi_line", text)
    check_text(text.replace("\t", " "))
    folded = " ".join(text.split())
    if len(folded) > MAX_CAPTION_CHARACTERS:
        raise _bad("too_long", folded)
    return folded.lower()


def check_text(text: str) -> None:
    """Refuse characters that no caption, label or file name needs.

    Raises BadRow: control_characters (including those that change the direction of text) or not_utf8.
    """
    if text.isascii() and text.isprintable():
        return
    for character in text:
        if unicodedata.category(character) == "Cs":
            raise _bad("not_utf8", text)
        if unicodedata.category(character) == "Cc" or character in _BIDI_CONTROLS:
            raise _bad("control_characters", text)


def _bad(reason: str, text: str) -> BadRow:
    return BadRow(
        reason,
        f"expected a `caption` of 1 to {MAX_CAPTION_CHARACTERS} characters on one line, found {text[:200]!r:.60}",
    )


def clean_label(text: str) -> str | None:
    """Label without surrounding white space, or None if it is empty or only what tools write for a missing value.

    Raises BadRow: label, control_characters or not_utf8.
    """
    label = text.strip()
    if not label or stands_for_no_value(label):
        return None
    if len(label) > MAX_LABEL_CHARACTERS or len(label.splitlines()) > 1:
        raise BadRow("label", f"expected a label of at most {MAX_LABEL_CHARACTERS} characters, found {label!r:.60}")
    check_text(label)
    return label


def clean_youtube_id(text: str) -> str:
    """YouTube id named by `text`. Raises BadRow: id."""
    found = youtube_id(text.strip())
    if found is None:
        raise BadRow("id", f"expected the 11-character id of a YouTube video, found {text!r:.60}")
    return found


def segment_id(video: str, start: str) -> str:
    """Clip id of the segment of a video that starts after `start` seconds. Raises BadRow: id or start_time."""
    try:
        start_s = float(start)
    except ValueError:
        start_s = -1.0
    if not 0 <= start_s < _LAST_START_S:
        raise BadRow("start_time", f"expected seconds from the start of the video, found {start!r:.60}")
    return f"{clean_youtube_id(video)}_{round(start_s * 1000)}"


def convert(
    records: Iterable[tuple[str, Record]], make: Callable[[Record], list[CaptionRow]], on_bad: OnBad
) -> Iterator[CaptionRow]:
    """Rows made from each `(place, record)`; a record for which `make` raises `BadRow` goes to `on_bad`."""
    for where, record in records:
        try:
            rows = make(record)
        except BadRow as bad:
            on_bad(where, str(bad))
        else:
            yield from rows


class _LongRecord(Exception):
    pass


class _Lines:
    """Lines of an open file for `csv.reader`; a record that is too long is skipped and raises `_LongRecord`.

    `in_record` is the number of lines read since `start_record`.
    """

    def __init__(self, file: TextIO, comments: bool) -> None:
        self.number = self.in_record = self._characters = 0
        self._file, self._comments = file, comments

    def start_record(self) -> int:
        self.in_record = self._characters = 0
        return self.number + 1

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._read()
        # Spreadsheets make `#NAME?` of ids that start with a dash.
        while self._comments and not self.in_record and line.startswith("#") and not line.startswith("#NAME?"):
            line = self._read()
        if not line:
            raise StopIteration
        self._characters += len(line)
        if self._characters > MAX_RECORD_CHARACTERS:
            while line and line[-1] not in "\r\n":
                line = self._file.readline(MAX_RECORD_CHARACTERS)
            raise _LongRecord
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
    lines = _records(path, on_bad, False, lambda lines: lines)
    return ((number, line) for number, line in lines if line.strip())


def read_rows(path: Path, on_bad: OnBad, *, comments: bool = False) -> Iterator[tuple[int, list[str]]]:
    """`(line number, cells)` of each CSV record, including the header, which tells comma, semicolon or tab.

    Args:
        on_bad: called for a row that is too long, which is skipped.
        comments: skip lines that start with `#`, as AudioSet's files have them; the separator is a comma.

    Raises DataError: broken quoting; the rest of the file cannot be split into records.
    """
    with open_text(path) as file:
        mark = "," if comments else delimiter(file.readline(MAX_RECORD_CHARACTERS))
    reader = partial(csv.reader, delimiter=mark, strict=True, skipinitialspace=True)
    return _records(path, on_bad, comments, reader)


def _records(
    path: Path, on_bad: OnBad, comments: bool, split: Callable[[_Lines], Iterator[Item]]
) -> Iterator[tuple[int, Item]]:
    with open_text(path) as file:
        lines = _Lines(file, comments)
        records = split(lines)
        while True:
            number, problem = lines.start_record(), ""
            try:
                record = next(records, None)
            except _LongRecord:
                if not lines.in_record:
                    on_bad(
                        f"{path}, line {number}", f"too_long: the row has more than {MAX_RECORD_CHARACTERS} characters"
                    )
                    continue
                problem = "a quote is not closed"
            except csv.Error as error:
                problem = str(error)
            if problem:
                raise unreadable(
                    path,
                    f"line {number}: broken quoting ({problem}); put a cell that holds quotes in quotes and double "
                    "those inside",
                )
            if record is None:
                return
            if record:
                yield number, record


def read_table(
    path: Path, on_bad: OnBad, required: Sequence[str], expected: str
) -> Iterator[tuple[str, dict[str, str]]]:
    """`(place, {column: cell})` of each row of a CSV with a header.

    Column names are normalised: lower case, no leading `#`, `_` for spaces. A row without the required columns, or
    with more cells than columns, goes to `on_bad`.

    Raises DataError: a required column is missing (`expected` names the columns in words) or occurs twice, or the
    quoting is broken.
    """
    rows = read_rows(path, on_bad)
    columns = list(map(column, next(rows, (0, []))[1]))
    if not set(required) <= set(columns):
        found = f"found {', '.join(columns)[:200] or 'none'}"
        raise unreadable(path, f"expected {expected} as columns, {found}; correct the header or name another format")
    if twice := [name for name in (*required, "label") if columns.count(name) > 1]:
        raise unreadable(path, f"the column {twice[0]} occurs twice; rename or remove the one not meant")
    for record, (line, cells) in enumerate(rows, start=1):
        # Spreadsheets write empty cells behind the last column.
        while len(cells) > len(columns) and not cells[-1].strip():
            cells.pop()
        where = f"{path}, record {record}, line {line}"
        values = dict(zip(columns, cells, strict=False))
        if len(cells) > len(columns):
            count = f"{len(cells)} cells for {len(columns)} columns"
            on_bad(where, f"columns: {count}; put text that holds commas in quotes")
        elif not set(required) <= set(values):
            on_bad(where, f"columns: {len(cells)} cells, expected {expected}")
        else:
            yield where, values


def column(name: str) -> str:
    """Name of a column in lower case, without a leading `#`, and with `_` for spaces."""
    return " ".join(name.lstrip("# \t").lower().split()).replace(" ", "_")


def table_format(columns: Sequence[str], expected: str, pair: Callable[[dict[str, str]], tuple[str, str]]) -> Format:
    """Format of a CSV with a header; `pair` gives clip id and caption of a row, or raises `BadRow`.

    `columns` and `expected` are as in `read_table`.
    """

    def rows(cells: dict[str, str]) -> list[CaptionRow]:
        clip_id, caption = pair(cells)
        return [CaptionRow(clip_id, None, clean_caption(caption), None)]

    def read(path: Path, on_bad: OnBad, seed: int) -> Iterator[CaptionRow]:
        return convert(read_table(path, on_bad, columns, expected), rows, on_bad)

    return Format(read, frozenset(columns))
