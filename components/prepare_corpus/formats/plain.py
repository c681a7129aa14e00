"""Our own caption file: a CSV, or JSON lines (`.jsonl`, `.ndjson`), of `file`, `caption` and optionally `label`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.prepare_corpus.captions import (
    MAX_CAPTION_CHARACTERS,
    MAX_FILE_CHARACTERS,
    BadRow,
    CaptionRow,
    Format,
    OnBad,
    check_text,
    clean_caption,
    clean_label,
    column,
    convert,
    file_stem,
    read_lines,
    read_table,
    unreadable,
)

COLUMNS = ("file", "caption")
_LINES = (".jsonl", ".ndjson")
EXPECTED = "`file` (or `file_name`) and a `caption` (and a `label`, where known)"


def _read(path: Path, on_bad: OnBad, seed: int) -> Iterator[CaptionRow]:
    if path.suffix.lower() in _LINES:
        return convert(_json_lines(path, on_bad), rows_of, on_bad)
    return convert(read_table(path, on_bad, COLUMNS, EXPECTED), rows_of, on_bad)


def _json_lines(path: Path, on_bad: OnBad) -> Iterator[tuple[str, dict[str, Any]]]:
    for record, (number, line) in enumerate(read_lines(path, on_bad), start=1):
        where = f"{path}, record {record}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            if record == 1:
                raise unreadable(path, f"line {number} is no JSON ({error}); expected CSV or JSONL in UTF-8") from error
            on_bad(where, f"not_json: {error}")
            continue
        if isinstance(value, dict):
            yield where, {column(name): each for name, each in value.items()}
        else:
            on_bad(where, f"columns: expected {EXPECTED}, found {value!r:.60}")


def rows_of(values: dict[str, Any]) -> list[CaptionRow]:
    """The caption in the fields of a row. Raises BadRow."""
    values = {"file": values.get("file_name"), **values}
    told = [values.get(name) for name in (*COLUMNS, "label")]
    file, caption, label = ("" if value is None else str(value) for value in told)
    found = f"found file={file!r:.60} caption={caption!r:.60}"
    if any(isinstance(value, dict | list) for value in told):
        raise BadRow("columns", f"expected one text each, in a row for each caption, {found} label={label!r:.60}")
    expected = f"expected `file` and a `caption` of 1 to {MAX_CAPTION_CHARACTERS} characters on one line"
    if not file or len(file) > MAX_FILE_CHARACTERS:
        raise BadRow("file", f"{expected}, {found}")
    try:
        check_text(file)
        return [CaptionRow(file_stem(file), file, clean_caption(caption), clean_label(label))]
    except BadRow as bad:
        reason = str(bad).partition(":")[0]
        # Surrogates stand for bytes that are no UTF-8.
        remedy = "; save the captions file in UTF-8" if reason == "not_utf8" else ""
        raise BadRow(reason, f"{expected}, {found}{remedy}") from bad


FORMAT = Format(_read, frozenset(COLUMNS), suffixes=_LINES)
