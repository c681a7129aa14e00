"""Listing of the clips that a label file names: the user's table, CSV or JSON lines."""

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.audio.walk import escaped, is_text
from common.contracts.gold import Drop
from common.datasets.labels import NO_VALUE, Notice, Spellings, canonical, shown
from common.datasets.names import NameFinder, is_folder, near
from common.datasets.rows import SPLITS, Listing, Row, check_split_names
from common.errors import DataError

COLUMNS = ("path", "label", "split", "group")
_TIMES = frozenset(f"{name}{unit}" for name in ("start", "end", "onset", "offset") for unit in ("", "_time", "_s"))


def list_labelled(labels: Path, root: Path, multi_label: bool) -> Listing:
    """List the clips of a label file with paths relative to `root`.

    With `multi_label` a cell may hold several labels, and so may several rows of one file, which are joined.

    A file that is not there is taken under another spelling of its name (Unicode form, case, `\\` for `/`) if exactly
    one such file is there and no other row names it.

    Raises DataError: the file or the folder is missing or malformed, or no row can be used.
    """
    if not is_folder(root):
        raise DataError(f"audio folder {root} does not exist; correct `audio:` in the dataset file{near(root)}")
    columns, lines = _read_label_file(labels)
    reader = _Reader(
        labels, root, multi_label, Listing(ignored_columns=[name for name in columns if name not in COLUMNS])
    )
    listing, groups = reader.listing, reader.groups
    rows = [(line, row) for line, values in lines if (row := reader.row(values, line)) is not None]
    check_split_names(reader.split_names, str(labels))
    listing.rows = _without_repeats(_found(rows, root, listing), multi_label, listing)
    if not listing.rows:
        first = f"; first problem: {listing.dropped[0].source}: {listing.dropped[0].detail}" if listing.dropped else ""
        raise DataError(f"{labels} lists no usable clips; expected rows of path,label{first}")
    kept = {label for row in listing.rows for label in row.labels}
    if lost := sorted({label for _, row in rows for label in row.labels} - kept):
        named = next(f"{drop.source}: {drop.detail}" for drop in listing.dropped if drop.reason == "conflicting_rows")
        raise DataError(f"{labels}: every row of class {lost[0]!r} contradicts another one ({named}); correct the rows")
    listing.notices += [*groups.notices(), *groups.alike()]
    if times := [name for name in listing.ignored_columns if name in _TIMES]:
        message = (
            f"{', '.join(times)} of {labels} are not used: every file is taken whole; if rows name parts of files, cut "
            "these into files of their own"
        )
        listing.notices.append(Notice("whole_files", message))
    return listing


class _Reader:
    """Rows from the values of lines; `listing` takes what cannot be a row."""

    def __init__(self, labels: Path, root: Path, multi_label: bool, listing: Listing) -> None:
        self._file, self._root, self._multi_label = labels, root, multi_label
        self.listing, self.groups = listing, Spellings("group")
        self.split_names: set[str] = set()

    def row(self, values: dict[str, Any], line: int) -> Row | None:
        where = f"{self._file}, line {line}"
        labels = self._labels(values.get("label"), where, line)
        path, split, group = (_text(values.get(name), name, where) for name in ("path", "split", "group"))
        path, split = path.strip(), canonical(split).lower()
        if not path:
            self.listing.dropped.append(Drop(where, "no_path", "the path is empty"))
            return None
        source = Path(os.path.normpath(path)).as_posix()
        if not is_text(source):
            detail = f"{where}: the path is no Unicode text; rename the file, and write its name as UTF-8"
            self.listing.dropped.append(Drop(escaped(source), "bad_name", detail))
            return None
        if not labels:
            found = str(values.get("label") or "").strip()
            held = f"{found!r:.60} stands for no value" if found else "the label is empty"
            self.listing.dropped.append(Drop(source, "no_label", f"{where}: {held}"))
            return None
        if split and split not in SPLITS:
            raise DataError(
                f"{where}: split {split!r}; expected train, val (or validation, valid, dev) or test (or eval); correct "
                "the value"
            )
        self.split_names |= {split} if split else set()
        if name := canonical(group):
            self.groups.add(name, group, f"line {line}")
        return Row(self._root / source, source, labels[0], SPLITS.get(split), name or None, tuple(labels[1:]))

    def _labels(self, value: Any, where: str, line: int) -> list[str]:
        """Labels of a clip, without duplicates: from one text, a text separated by ';' or '|', or a list of texts."""
        if not self._multi_label and isinstance(value, list | dict):
            raise DataError(
                f"{where}: label is {value!r:.60}; expected one text (one label per clip), or `multi_label: true` in "
                "the dataset file"
            )
        texts = [_text(each, "label", where) for each in (value if isinstance(value, list) else [value])]
        if self._multi_label and not isinstance(value, list):
            # White space around a separator belongs to the form of the file.
            texts = [text.strip() for text in re.split("[;|]", texts[0])] if texts[0].strip() else []
        labels = [canonical(text) for text in texts]
        labels = ["" if label.lower() in NO_VALUE else label for label in labels]
        if self._multi_label and "" in labels and len(labels) > 1:
            raise DataError(f"{where}: label {value!r:.60} has an empty part; put one ';' or '|' between two labels")
        for label, text in zip(labels, texts, strict=True):
            self.listing.spellings.add(label, text, f"line {line}")
        return list(dict.fromkeys(label for label in labels if label))


def _text(value: Any, name: str, where: str) -> str:
    if isinstance(value, list | dict):
        raise DataError(f"{where}: {name} is {value!r:.60}; expected one text")
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    text = str(value)
    if name != "path" and not is_text(text):
        raise DataError(f"{where}: {name} {text!a} is no Unicode text; write the file as UTF-8")
    return text


def _found(rows: list[tuple[int, Row]], root: Path, listing: Listing) -> list[tuple[int, Row]]:
    """Rows with the names under which their files were found."""
    finder, listed = NameFinder(), {row.source for _, row in rows}
    found, renamed = [], []
    for line, row in rows:
        if not os.path.isfile(row.path):
            others = [name for name in finder.spellings(root, row.source) if name not in listed]
            if len(others) == 1:
                renamed.append((row.source, others[0]))
                row = replace(row, path=root / others[0], source=others[0])
        found.append((line, row))
    if renamed:
        first, other = map(shown, renamed[0])
        listing.notices.append(
            Notice(
                "names_differ",
                f"{len(renamed)} listed file(s) were found under another spelling of their names (Unicode form, case, "
                f"or '/' for '\\'), such as {first} as {other}",
            )
        )
    return found


def _without_repeats(rows: list[tuple[int, Row]], multi_label: bool, listing: Listing) -> list[Row]:
    """Rows without repetitions and contradictions, which go to `dropped`; several labels of a file are joined."""
    seen: dict[str, tuple[int, Row]] = {}
    conflicting: dict[str, str] = {}
    joined = set()
    for line, row in rows:
        at, first = seen.setdefault(row.source, (line, row))
        same = set(first.labels) == set(row.labels)
        if first is row:
            continue
        if (first.split, first.group) != (row.split, row.group) or not (same or multi_label):
            values = [(", ".join(map(repr, r.labels)), f"split {r.split}", f"group {r.group}") for r in (first, row)]
            told = ", ".join(f"{one} and {other}" for one, other in zip(*values, strict=True) if one != other)
            hint = "" if multi_label or same else "; where clips have several labels, say `multi_label: true`"
            conflicting[row.source] = f"lines {at} and {line}: {told}{hint}"
        elif same:
            listing.dropped.append(Drop(row.source, "duplicate_row", f"lines {at} and {line}"))
        else:
            joined.add(row.source)
            labels = tuple(dict.fromkeys((*first.labels, *row.labels)))
            seen[row.source] = at, replace(first, further_labels=labels[1:])
    if joined := joined - conflicting.keys():
        message = f"{len(joined)} file(s) have several rows, whose labels were joined, such as {shown(min(joined))}"
        listing.notices.append(Notice("rows_joined", message))
    listing.dropped += [Drop(source, "conflicting_rows", detail) for source, detail in conflicting.items()]
    return [row for _, row in seen.values() if row.source not in conflicting]


def _read_label_file(path: Path) -> tuple[list[str], Iterable[tuple[int, dict[str, Any]]]]:
    """Read a label file: CSV with comma, semicolon or tab, or one JSON object per line.

    Returns the column names in lower case, and `(line number, values by column)` of each row. Raises DataError: the
    file is missing, empty or malformed, or has no column path or label.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(
            f"cannot read label file {path}: {error.strerror}; correct `labels:` in the dataset file{near(path)}"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"label file {path} is not UTF-8 (byte {error.start}); save it as a CSV in UTF-8") from error
    if not text.strip():
        raise DataError(f"label file {path} is empty; expected the columns path and label")
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        rows = list(_jsonl(path, text))
        columns = list(dict.fromkeys(name for _, row in rows for name in row))
        _check_columns(path, columns)
        return columns, rows
    return _csv(path, text)


def _check_columns(path: Path, columns: list[str]) -> None:
    missing = [name for name in ("path", "label") if name not in columns]
    if missing:
        raise DataError(
            f"label file {path}: no column {' and no column '.join(missing)}; found {', '.join(columns) or 'none'}; "
            "expected path,label[,split][,group]"
        )
    if twice := [name for name in COLUMNS if columns.count(name) > 1]:
        raise DataError(f"label file {path}: the column {twice[0]} occurs twice; rename or remove the one not meant")


def delimiter(header: str) -> str:
    """What separates the columns of a table with this header: comma, semicolon or tab."""
    return max(",;\t", key=header.count)


def _csv(path: Path, text: str) -> tuple[list[str], Iterable[tuple[int, dict[str, Any]]]]:
    separator = delimiter(text.lstrip("\n").split("\n", 1)[0])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    rows: list[tuple[int, dict[str, Any]]] = []
    columns: list[str] = []
    try:
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            # Spreadsheets write empty cells behind the last column.
            while len(values) > len(columns) and not values[-1].strip():
                values.pop()
            if not columns:
                columns = [name.strip().lower() for name in values]
                _check_columns(path, columns)
                continue
            if len(values) > len(columns):
                raise DataError(
                    f"{path}, line {reader.line_num}: {len(values)} values for {len(columns)} columns; put a value "
                    f"that holds {separator!r} in double quotes"
                )
            rows.append((reader.line_num, dict(zip(columns, values, strict=False))))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}; check the quotes around this line") from error
    return columns, rows


def _jsonl(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line, object_pairs_hook=_object)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: no JSON ({error}); expected one object a line") from error
        if not isinstance(values, dict):
            raise DataError(f"{path}, line {number}: found {line[:60]!r}; expected an object with path and label")
        yield number, values


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = {name.strip().lower(): value for name, value in pairs}
    if len(values) < len(pairs):
        raise ValueError(f"a name occurs twice in {', '.join(name for name, _ in pairs)}")
    return values
