"""Reading of label files: the user's table of clips, CSV or JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from common.datasets.names import near
from common.errors import DataError

COLUMNS = ("path", "label", "split", "group")


def read_label_file(path: Path) -> tuple[list[str], Iterable[tuple[int, dict[str, Any]]]]:
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
    if twice := [name for name in COLUMNS if columns.count(name) > 1]:
        raise DataError(f"label file {path}: the column {twice[0]} occurs twice; rename or remove the one not meant")


def _csv(path: Path, text: str) -> tuple[list[str], Iterable[tuple[int, dict[str, Any]]]]:
    header = text.lstrip("\n").split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
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
