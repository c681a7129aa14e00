"""Which clips a dataset has, with label, split and group, before any audio is read."""

from __future__ import annotations

import csv
import io
import json
import os
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.config.dataset import DatasetSpec
from common.errors import DataError
from common.text import normalize_label

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".w64", ".caf"})
SPLITS = {"train": "train", "training": "train", "val": "val", "validation": "val", "dev": "val", "test": "test"}
COLUMNS = ("path", "label", "split", "group")
MAX_LABEL_LENGTH = 80


@dataclass(frozen=True)
class Row:
    """A clip as listed: `source` is its path relative to the audio root, in POSIX form."""

    path: Path
    source: str
    label: str
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Drop:
    """A clip that is left out, with a reason code and the details in words."""

    source: str
    reason: str
    detail: str


@dataclass
class Listing:
    """What a dataset lists.

    Attributes:
        rows: usable rows, in order.
        dropped: rows that are no clip, or one listed before.
        ignored_columns: columns of the label file that are not used.
        ignored_files: files of a class folder that are no audio by their suffix.
        has_splits: whether splits are given.
    """

    rows: list[Row] = field(default_factory=list)
    dropped: list[Drop] = field(default_factory=list)
    ignored_columns: list[str] = field(default_factory=list)
    ignored_files: list[str] = field(default_factory=list)
    has_splits: bool = False


def list_clips(spec: DatasetSpec) -> Listing:
    """List the clips of a dataset of files.

    Raises:
        DataError: the label file or folder is missing, empty or malformed, or the labels make no classes.
    """
    listing = _from_labels(spec) if spec.labels is not None else _from_folders(spec)
    _check_labels(listing.rows, str(spec.labels or spec.audio))
    return listing


def _from_labels(spec: DatasetSpec) -> Listing:
    if spec.labels is None:
        raise DataError(f"dataset {spec.name}: no label file")
    root = spec.audio or spec.labels.parent
    if not root.is_dir():
        raise DataError(f"audio folder {root} does not exist; correct `audio:` in the dataset file")
    columns, rows = _records(spec.labels)
    listing = Listing(ignored_columns=[name for name in columns if name not in COLUMNS])
    seen: dict[str, tuple[int, Row]] = {}
    conflicting: dict[str, str] = {}
    for line, values in rows:
        row = _row(values, root, f"{spec.labels}, line {line}", listing)
        if row is None:
            continue
        listing.has_splits |= row.split is not None
        first = seen.setdefault(row.source, (line, row))
        if first[1] is row:
            continue
        if first[1].label != row.label or first[1].split != row.split:
            conflicting[row.source] = (
                f"lines {first[0]} and {line}: {first[1].label!r} ({first[1].split}) and {row.label!r} ({row.split})"
            )
        else:
            listing.dropped.append(Drop(row.source, "duplicate_row", f"lines {first[0]} and {line}"))
    listing.dropped += [Drop(source, "conflicting_rows", detail) for source, detail in conflicting.items()]
    listing.rows = [row for _, row in seen.values() if row.source not in conflicting]
    if not listing.rows:
        raise DataError(f"{spec.labels} lists no usable clips; expected rows of path,label{_why(listing.dropped)}")
    return listing


def _why(dropped: list[Drop]) -> str:
    return f"; first problem: {dropped[0].source}: {dropped[0].detail}" if dropped else ""


def _row(values: dict[str, Any], root: Path, where: str, listing: Listing) -> Row | None:
    found = {}
    for name in COLUMNS:
        value = values.get(name)
        if isinstance(value, list | dict):
            raise DataError(f"{where}: {name} is {value!r:.60}; expected one text (one label per clip)")
        found[name] = "" if value is None else str(value).strip()
    if not found["path"]:
        listing.dropped.append(Drop(where, "no_path", "the path is empty"))
        return None
    source = Path(os.path.normpath(found["path"])).as_posix()
    if not found["label"]:
        listing.dropped.append(Drop(source, "no_label", f"{where}: the label is empty"))
        return None
    split = SPLITS.get(found["split"].lower())
    if found["split"] and split is None:
        raise DataError(
            f"{where}: split {found['split']!r}; expected train, val (or validation, dev) or test; correct the value"
        )
    label = unicodedata.normalize("NFC", found["label"])
    return Row(root / source, source, label, split, found["group"] or None)


def _records(path: Path) -> tuple[list[str], Iterable[tuple[int, dict[str, Any]]]]:
    """The column names, and `(line number, values)` of each row."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(
            f"cannot read label file {path}: {error.strerror}; correct `labels:` in the dataset file"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"label file {path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
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


def _csv(path: Path, text: str) -> tuple[list[str], Iterable[tuple[int, dict[str, Any]]]]:
    header = text.lstrip("\n").split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, dict[str, Any]]] = []
    columns: list[str] = []
    try:
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            if not columns:
                columns = [name.strip().lower() for name in values]
                _check_columns(path, columns)
                continue
            if len(values) > len(columns):
                raise DataError(
                    f"{path}, line {reader.line_num}: {len(values)} values for {len(columns)} columns; put a value "
                    f"that holds {delimiter!r} in double quotes"
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
            values = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: no JSON ({error}); expected one object a line") from error
        if not isinstance(values, dict):
            raise DataError(f"{path}, line {number}: found {line[:60]!r}; expected an object with path and label")
        yield number, {str(name).strip().lower(): value for name, value in values.items()}


def _from_folders(spec: DatasetSpec) -> Listing:
    """One sub-folder per class; or sub-folders named as splits, each with one sub-folder per class."""
    root = spec.audio
    if root is None or not root.is_dir():
        raise DataError(f"audio folder {root} does not exist; correct `audio:` in the dataset file")
    listing, tops = Listing(), _folders(root)
    by_split = len(tops) > 1 and all(top.name.lower() in SPLITS for top in tops) and any(map(_folders, tops))
    for top in tops:
        split = SPLITS[top.name.lower()] if by_split else None
        for folder in _folders(top) if by_split else [top]:
            _add_folder(listing, root, folder, split)
    listing.has_splits = by_split
    if not listing.rows:
        raise DataError(
            f"audio folder {root} holds no audio in sub-folders; expected one sub-folder per class with "
            f"{', '.join(sorted(AUDIO_SUFFIXES))} files, or a label file named by `labels:`"
        )
    return listing


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))


def _add_folder(listing: Listing, root: Path, folder: Path, split: str | None) -> None:
    label = unicodedata.normalize("NFC", folder.name).strip()
    for path in sorted(folder.rglob("*")):
        if path.name.startswith(".") or not path.is_file():
            continue
        source = path.relative_to(root).as_posix()
        if path.suffix.lower() in AUDIO_SUFFIXES:
            listing.rows.append(Row(path, source, label, split))
        else:
            listing.ignored_files.append(source)


def _check_labels(rows: list[Row], where: str) -> None:
    spellings: dict[str, str] = {}
    for label in sorted({row.label for row in rows}):
        text = normalize_label(label)
        if not text:
            raise DataError(f"{where}: label {label!r} has no printable character; rename the class")
        if len(text) > MAX_LABEL_LENGTH:
            raise DataError(f"{where}: label {label[:40]!r}… has {len(text)} characters; at most {MAX_LABEL_LENGTH}")
        if text in spellings:
            raise DataError(
                f"{where}: labels {spellings[text]!r} and {label!r} read the same to the models ({text!r}: case, '_' "
                "and '/' do not count); spell one class one way, or name the classes apart"
            )
        spellings[text] = label
    if len(spellings) < 2:
        only = next(iter(spellings.values()), "")
        raise DataError(f"{where}: one class only ({only!r}); expected at least two to tell apart")
