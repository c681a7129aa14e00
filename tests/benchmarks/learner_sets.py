"""The sets on which learners are measured: which clips, what is held out in turn, and the accuracy to reach.

The audio of all but `demo` is third-party and stays where it is: a cell is a dataset file with a label file, whose
paths lead there.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from common.errors import DataError

Row = dict[str, str]
DEMO = "demo"


@dataclass(frozen=True)
class Layout:
    """Clips in a folder with `metadata.csv`, whose columns are path, label, group and those named here.

    Attributes:
        folder: below the folder of all data.
        fold: column whose values are held out in turn, each as the test split.
        only: (column, value) of the clips that belong to the set; an empty value = any but none.
        domain: what the clips are, for captions.
        licence: of the audio.
    """

    folder: str
    fold: str
    domain: str
    licence: str
    only: tuple[str, str] | None = None


@dataclass(frozen=True)
class BenchSet:
    """A set with its targets.

    Attributes:
        title: name in the table.
        targets: accuracy to reach, in percent, by number of training clips.
        layout: where its clips are; None = a registered dataset of the set's name with its own split.
    """

    title: str
    targets: Mapping[int, float]
    layout: Layout | None = field(default=None)


SETS: dict[str, BenchSet] = {
    DEMO: BenchSet("demo", {32: 70.0}),
    "digits": BenchSet(
        "spoken digits, unseen speaker",
        {50: 65.0, 100: 72.0},
        Layout("fsdd_16k", "group", "spoken digits", "CC BY-SA 4.0"),
    ),
    "foley8": BenchSet(
        "foley8",
        {50: 52.0},
        Layout("corpus_16k", "foley8_fold", "foley", "CC0 and CC BY, each clip its own", only=("foley8_fold", "")),
    ),
    "esc10": BenchSet(
        "ESC-10",
        {50: 73.0, 100: 78.0},
        Layout("esc50_folds1to4_16k", "fold", "environmental sounds", "CC BY 3.0", only=("split", "esc10")),
    ),
}


def read_rows(layout: Layout, data: Path) -> list[Row]:
    """Rows of the set in `<data>/<folder>/metadata.csv`.

    Raises:
        DataError: the file is not there, lacks a column, or has no such clips.
    """
    path = data / layout.folder / "metadata.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; DATA= names the folder that holds it") from error
    needed = ["path", "label", "group", layout.fold, *([layout.only[0]] if layout.only else [])]
    if missing := [name for name in needed if not rows or rows[0].get(name) is None]:
        raise DataError(f"{path}: no column {missing[0]}, or no rows; expected {', '.join(dict.fromkeys(needed))}")
    if layout.only is not None:
        column, value = layout.only
        rows = [row for row in rows if (row[column] == value if value else row[column])]
    if len(folds(layout, rows)) < 2:
        raise DataError(
            f"{path}: the set has fewer than 2 values of {layout.fold}; expected one to hold out, and others"
        )
    return rows


def folds(layout: Layout, rows: list[Row]) -> list[str]:
    """Values that are held out in turn, sorted."""
    return sorted({row[layout.fold] for row in rows})


def write_dataset(name: str, layout: Layout, rows: list[Row], fold: str, data: Path, folder: Path) -> Path:
    """Write `<name>-<fold>.csv` and `.yaml` to `folder`, with `fold` as the test split; return the YAML's path."""
    stem = f"{name}-{fold}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{stem}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", "group"])
        for row in rows:
            writer.writerow([row["path"], row["label"], "test" if row[layout.fold] == fold else "train", row["group"]])
    spec = {
        "name": stem,
        "labels": f"{stem}.csv",
        "audio": str((data / layout.folder).resolve()),
        "test": "split",
        "domain": layout.domain,
        "licence": layout.licence,
    }
    path = folder / f"{stem}.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return path
