"""Listing of a dataset's clips, with label, split and group, before any audio is read."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from typing import Any

from common.audio import AUDIO_SUFFIXES
from common.config.dataset import DatasetSpec
from common.datasets.label_file import read_label_file
from common.datasets.rows import Drop, Listing, Row
from common.errors import DataError, unknown_name
from common.records.text import normalize_label

SPLITS = {"train": "train", "training": "train", "val": "val", "validation": "val", "dev": "val", "test": "test"}
COLUMNS = ("path", "label", "split", "group")
MAX_LABEL_LENGTH = 80


def list_clips(spec: DatasetSpec) -> Listing:
    """List the clips of a dataset: the user's own files or the native layout of a published dataset.

    Raises:
        ConfigError: a published dataset is not on this machine, or lacks the requested folds.
        DataError: the label file or folder is missing, empty or malformed, or the labels are not valid classes.
    """
    if spec.reader != "files":
        # Imported here, because the layouts import this module.
        from common.datasets.layouts.located import list_located

        listing = list_located(spec)
    else:
        listing = _from_labels(spec) if spec.labels is not None else _from_folders(spec)
    _check_known(listing.rows, spec)
    _check_labels(listing.rows, str(spec.labels or spec.audio or f"dataset {spec.name}"))
    return listing


def _from_labels(spec: DatasetSpec) -> Listing:
    if spec.labels is None:
        raise DataError(f"dataset {spec.name}: no label file")
    root = spec.audio or spec.labels.parent
    if not root.is_dir():
        raise DataError(f"audio folder {root} does not exist; correct `audio:` in the dataset file")
    columns, rows = read_label_file(spec.labels)
    listing = Listing(ignored_columns=[name for name in columns if name not in COLUMNS])
    seen: dict[str, tuple[int, Row]] = {}
    conflicting: dict[str, str] = {}
    for line, values in rows:
        row = _row(values, root, f"{spec.labels}, line {line}", listing, spec.multi_label)
        if row is None:
            continue
        listing.has_splits |= row.split is not None
        first = seen.setdefault(row.source, (line, row))
        if first[1] is row:
            continue
        if set(first[1].labels) != set(row.labels) or first[1].split != row.split:
            named = [f"{', '.join(map(repr, each.labels))} ({each.split})" for each in (first[1], row)]
            conflicting[row.source] = f"lines {first[0]} and {line}: {named[0]} and {named[1]}"
        else:
            listing.dropped.append(Drop(row.source, "duplicate_row", f"lines {first[0]} and {line}"))
    listing.dropped += [Drop(source, "conflicting_rows", detail) for source, detail in conflicting.items()]
    listing.rows = [row for _, row in seen.values() if row.source not in conflicting]
    if not listing.rows:
        raise DataError(f"{spec.labels} lists no usable clips; expected rows of path,label{_why(listing.dropped)}")
    return listing


def _why(dropped: list[Drop]) -> str:
    return f"; first problem: {dropped[0].source}: {dropped[0].detail}" if dropped else ""


def _row(values: dict[str, Any], root: Path, where: str, listing: Listing, multi_label: bool) -> Row | None:
    labels = _labels(values.get("label"), where, multi_label)
    path, split, group = (_text(values, name, where) for name in ("path", "split", "group"))
    if not path:
        listing.dropped.append(Drop(where, "no_path", "the path is empty"))
        return None
    source = Path(os.path.normpath(path)).as_posix()
    if not labels:
        listing.dropped.append(Drop(source, "no_label", f"{where}: the label is empty"))
        return None
    if split and split.lower() not in SPLITS:
        raise DataError(
            f"{where}: split {split!r}; expected train, val (or validation, dev) or test; correct the value"
        )
    return Row(root / source, source, labels[0], SPLITS.get(split.lower()), group or None, tuple(labels[1:]))


def _text(values: dict[str, Any], name: str, where: str) -> str:
    value = values.get(name)
    if isinstance(value, list | dict):
        raise DataError(f"{where}: {name} is {value!r:.60}; expected one text")
    return "" if value is None else str(value).strip()


def _labels(value: Any, where: str, multi_label: bool) -> list[str]:
    """Labels of a clip, without duplicates: from one text, a text separated by ';' or '|', or a list of texts."""
    if not multi_label and isinstance(value, list | dict):
        raise DataError(
            f"{where}: label is {value!r:.60}; expected one text (one label per clip), or `multi_label: true` in the "
            "dataset file"
        )
    texts = value if isinstance(value, list) else [_text({"label": value}, "label", where)]
    if multi_label and not isinstance(value, list):
        texts = re.split("[;|]", texts[0]) if texts[0] else []
    names = [_text({"label": text}, "label", where) for text in texts]
    if multi_label and "" in names:
        raise DataError(f"{where}: label {value!r:.60} has an empty part; put one ';' or '|' between two labels")
    return list(dict.fromkeys(unicodedata.normalize("NFC", name) for name in names if name))


def _from_folders(spec: DatasetSpec) -> Listing:
    """List one sub-folder per class, or sub-folders named as splits with one sub-folder per class each."""
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


def _check_known(rows: list[Row], spec: DatasetSpec) -> None:
    for row in rows if spec.classes else ():
        for label in row.labels:
            if label not in spec.classes:
                raise DataError(f"dataset {spec.name}, {row.source}: {unknown_name('label', label, spec.classes)}")


def _check_labels(rows: list[Row], where: str) -> None:
    spellings: dict[str, str] = {}
    for label in sorted({label for row in rows for label in row.labels}):
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
