"""Rows of a dataset's listing, and the clips that it leaves out."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from common.contracts.gold import Drop
from common.datasets.labels import Notice, Spellings
from common.errors import DataError


@dataclass(frozen=True)
class Row:
    """A listed clip."""

    path: Path
    source: str
    """Path relative to the audio root, in POSIX form."""
    label: str
    """Its label, or the first of several."""
    split: str | None = None
    """`train`, `val` or `test`; None = not given."""
    group: str | None = None
    """Recording, speaker or artist."""
    further_labels: tuple[str, ...] = ()
    fold: int | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, `label` first."""
        return (self.label, *self.further_labels)

    @property
    def clip_id(self) -> str:
        """Id of the gold clip made from this row: hash of the relative path, 12 hex digits; never of the content."""
        return hashlib.sha256(self.source.encode("utf-8", "surrogatepass")).hexdigest()[:12]


@dataclass
class Listing:
    """Listing of a dataset."""

    rows: list[Row] = field(default_factory=list)
    """Usable rows, in order."""
    dropped: list[Drop] = field(default_factory=list)
    ignored_columns: list[str] = field(default_factory=list)
    ignored_files: list[str] = field(default_factory=list)
    """Files without an audio suffix, or outside the official lists of a dataset."""
    spellings: Spellings = field(default_factory=lambda: Spellings("label"), compare=False)
    notices: list[Notice] = field(default_factory=list)
    """Oddities that leave no clip out."""


SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


def check_split_names(names: Iterable[str], where: str) -> None:
    """Refuse `eval` beside `test`: in some datasets it is the validation split, in others the test split.

    Raises DataError: both occur.
    """
    words = {name.lower() for name in names}
    if (evaluation := words & {"eval", "evaluation"}) and (test := words & {"test", "testing"}):
        raise DataError(
            f"{where}: both {min(evaluation)} and {min(test)} are given; name the split that chooses models val, the "
            "one that is reported test"
        )
