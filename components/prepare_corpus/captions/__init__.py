"""Reading of caption files, whose formats are the modules of `components.prepare_corpus.formats`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from common.errors import DataError
from common.registered import member, names
from components.prepare_corpus.captions.records import CaptionRow, Format, OnBad, clip_key, youtube_id
from components.prepare_corpus.captions.tables import column_names, read_rows, unreadable

__all__ = ["CaptionRow", "clip_key", "detect_format", "formats", "read_captions", "youtube_id"]


def formats() -> dict[str, Format]:
    """Every caption format by name."""
    return {
        name: member("components.prepare_corpus.formats", name).FORMAT
        for name in names("components.prepare_corpus.formats")
    }


def read_captions(path: Path, format: str, on_bad: OnBad, seed: int = 0) -> Iterator[CaptionRow]:
    """Captions of a file, in its order; a clip may have several. `seed` decides the wording of weak captions.

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
        if each.suffix == path.suffix.lower():
            return name
    # A header may look like a comment: `# YouTube ID, caption`.
    for comments in (False, True):
        rows = read_rows(path, lambda where, reason: None, comments=comments, spaces=True)
        first = next(rows, (0, []))[1]
        fitting = [name for name, each in known.items() if each.columns <= {*column_names(first)} or each.starts(first)]
        if fitting:
            return max(fitting, key=lambda name: (name == "plain", len(known[name].columns)))
    raise unreadable(
        path,
        f"its first row {', '.join(first)!r:.100} fits none of the formats {', '.join(known)}; the simplest is a CSV "
        "with the columns `file` and `caption`",
    )
