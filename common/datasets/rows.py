"""What a dataset lists: its rows, and what it leaves out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """A clip as listed.

    Attributes:
        path: of its file.
        source: its path relative to the audio root, in POSIX form.
        label: its label, or the first of several.
        split: `train`, `val` or `test`; None = not given.
        group: recording, speaker or artist.
        further_labels: its other labels, of a dataset with several per clip.
        fold: of a dataset that comes in folds.
    """

    path: Path
    source: str
    label: str
    split: str | None = None
    group: str | None = None
    further_labels: tuple[str, ...] = ()
    fold: int | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """All its labels."""
        return (self.label, *self.further_labels)

    @property
    def clip_id(self) -> str:
        """Of the clip that it becomes."""
        return clip_id_of(self.source)


def clip_id_of(source: str) -> str:
    """12 hex digits of the relative path, never of the content."""
    return hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[:12]


@dataclass(frozen=True)
class Drop:
    """A clip that is left out, with a reason code, the details in words, and the split it was listed for."""

    source: str
    reason: str
    detail: str
    split: str | None = None


@dataclass
class Listing:
    """What a dataset lists.

    Attributes:
        rows: usable rows, in order.
        dropped: rows that are no clip, or one listed before.
        ignored_columns: columns of the label file that are not used.
        ignored_files: files that are no audio by their suffix, or outside the official lists of a dataset.
        has_splits: whether splits are given.
    """

    rows: list[Row] = field(default_factory=list)
    dropped: list[Drop] = field(default_factory=list)
    ignored_columns: list[str] = field(default_factory=list)
    ignored_files: list[str] = field(default_factory=list)
    has_splits: bool = False
