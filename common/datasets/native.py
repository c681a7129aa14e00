"""Helpers of the readers of native layouts: finding the dataset's folder, reading its tables."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from common.datasets.names import first_names
from common.errors import DataError

_SHOWN = 8


def entries(folder: Path) -> list[Path]:
    """Entries of a folder, sorted. Raises DataError: the folder cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(
            f"cannot read {folder}: {error.strerror}; allow this user to read and enter the folder"
        ) from error


def folder_with(root: Path, marker: str | Path) -> Path | None:
    """Folder that holds `marker`: `root`, or a sub-folder that an archive was unpacked to; None = neither."""
    below = [path for path in entries(root) if path.is_dir() and path.name[0] != "."] if root.is_dir() else []
    return next((folder for folder in (root, *below) if (folder / marker).exists()), None)


def home(root: Path, marker: str, dataset: str) -> Path:
    """Folder that holds `marker`: `root`, or a sub-folder that an archive was unpacked to.

    Args:
        marker: path of a file or folder that identifies the layout, relative to the dataset's own top folder.

    Raises DataError: no folder holds `marker`.
    """
    if found := folder_with(root, marker):
        return found
    raise DataError(
        f"{root} has not the layout of {dataset}: expected {marker} in it or in a folder below; found "
        f"{contents(root)}; unpack the original archives there"
    )


def contents(folder: Path) -> str:
    """First names in a folder, for messages."""
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in entries(folder))
    return first_names(names, _SHOWN) or "nothing"


def read_lines(path: Path) -> list[str]:
    """Read the non-empty lines of a text file, stripped. Raises DataError: the file is missing, empty or not UTF-8."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        beside = contents(path.parent) if path.parent.is_dir() else "no folder"
        raise DataError(
            f"cannot read {path}: {error.strerror}; beside it: {beside}; unpack the original archives again"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); unpack the original archive again") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{path} is empty; unpack the original archive again")
    return lines


def read_table(
    path: Path, columns: Sequence[str], delimiter: str = ",", header: bool = True
) -> Iterator[tuple[str, dict[str, str]]]:
    """Read the rows of a table, each with its position for messages.

    Args:
        columns: required columns; without a header line, all columns in order.
        header: whether the first line names the columns.

    Yields `("{path}, line {number}", values by column)`, stripped. Raises DataError: the file cannot be read, a column
    is missing, or a line is short or malformed.
    """
    reader = csv.reader(io.StringIO("\n".join(read_lines(path)) + "\n"), delimiter=delimiter, strict=True)
    names = list(columns)
    try:
        for number, values in enumerate(reader, start=1):
            if header and number == 1:
                names = [value.strip() for value in values]
                missing = [column for column in columns if column not in names]
                if missing:
                    raise DataError(
                        f"{path}: no column {', '.join(missing)}; found {', '.join(names)}; "
                        f"expected {', '.join(columns)}"
                    )
                continue
            where = f"{path}, line {number}"
            if len(values) < len(names):
                raise DataError(f"{where}: {len(values)} values; expected {len(names)} ({', '.join(names)})")
            yield where, {name: value.strip() for name, value in zip(names, values, strict=False)}
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}; unpack the original archive again") from error


def read_object(path: Path) -> dict[str, Any]:
    """Read the JSON object in a file. Raises DataError: the file cannot be read, or does not hold a JSON object."""
    text = "\n".join(read_lines(path))
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: {error.msg}; unpack the original archive again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, found a {type(value).__name__}")
    return value


def text_of(value: Any, name: str, where: str) -> str:
    """Text field `name` of a JSON object. Raises DataError: the field is missing, empty or not a text."""
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, str) or not found:
        raise DataError(f"{where}: {name} is {found!r:.60}; expected a text; unpack the original archive again")
    return found


def whole_number(text: str, where: str, column: str) -> int:
    """Parse `text` as a whole number. Raises DataError: it is not one."""
    if not text.isdecimal():
        raise DataError(f"{where}: {column} is {text!r}; expected a whole number")
    return int(text)


def check_folds(found: Iterable[int], folds: int, where: Path) -> None:
    """Check that the folds are exactly 1 to `folds`.

    Raises DataError: folds are missing or unexpected; the message names them.
    """
    names, expected = set(found), set(range(1, folds + 1))
    for what, wrong in (("lacks the", expected - names), ("has the unexpected", names - expected)):
        if wrong:
            raise DataError(
                f"{where} {what} fold(s) {', '.join(map(str, sorted(wrong)))}; expected 1 to {folds}; unpack the "
                "original archive again"
            )


def check_folder(folder: Path, what: str) -> None:
    """Check that the folder exists and is not empty.

    Raises DataError: the folder is missing or empty.
    """
    if not folder.is_dir() or not entries(folder):
        state = "is empty" if folder.is_dir() else f"is missing; found {contents(folder.parent)} in its place"
        raise DataError(f"{folder} {state}; expected {what}; unpack the original archives again")
