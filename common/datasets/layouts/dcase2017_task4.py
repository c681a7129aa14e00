"""DCASE 2017 task 4: `metadata/` with the official lists beside `training/`, `testing/` and `evaluation/`.

Seen: ankitshah009/Task-4-Large-scale-weakly-supervised-sound-event-detection-for-smart-cars: testing_set.csv, commit
368958e4fa65c2f58c120c82eb541f9aa74e6a08 (no header; YouTube id, start, end, labels, AudioSet ids; a comma inside a
label has a space after it, one between labels has none); groundtruth_weak_label_testing_set.csv, commit
0dd75f6445a54384d845490671d5dc6a163f617a, and groundtruth_release/groundtruth_weak_label_evaluation_set.csv, commit
2127761812763b95f6c000a1a7db73992b489412 (tabs, one line for each label of a file `<id>_<start>_<end>.wav`). Its README
says that downloaded files have a `Y` before the id. The folders are those which a published training code asks for;
the index does not name its repository. The audio archives, behind a password, were not opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from common.datasets.native import check_folder, contents, entries, read_table
from common.datasets.rows import Listing, Row
from common.errors import DataError, unknown_name

LISTS = {
    "train": ("training", "training_set.csv"),
    "val": ("testing", "testing_set.csv"),
    "test": ("evaluation", "groundtruth_weak_label_evaluation_set.csv"),
}
CLASSES = (
    "Air horn, truck horn",
    "Ambulance (siren)",
    "Bicycle",
    "Bus",
    "Car",
    "Car alarm",
    "Car passing by",
    "Civil defense siren",
    "Fire engine, fire truck (siren)",
    "Motorcycle",
    "Police car (siren)",
    "Reversing beeps",
    "Screaming",
    "Skateboard",
    "Train",
    "Train horn",
    "Truck",
)
_SEGMENT = re.compile(r"Y?(?P<id>.{11})_\d+(\.\d+)?_\d+(\.\d+)?\.wav")


def list_clips(root: Path) -> Listing:
    """List all clips with all their labels and the official split; the group is the YouTube video."""
    if not (root / "metadata").is_dir():
        raise DataError(
            f"{root} has not the layout of DCASE 2017 task 4: expected metadata/ with "
            f"{', '.join(name for _, name in LISTS.values())}; found {contents(root)}"
        )
    rows = []
    for split, (folder, name) in LISTS.items():
        check_folder(root / folder, "the clips, such as Y-5QrBL6MzLg_60.000_70.000.wav")
        present = {path.name for path in entries(root / folder)}
        listed = _released(root / "metadata" / name) if split == "test" else _listed(root / "metadata" / name)
        for file, labels in listed.items():
            source = f"{folder}/Y{file}" if f"Y{file}" in present else f"{folder}/{file}"
            first, *further = labels
            rows.append(Row(root / source, source, first, split, _video(file), tuple(further)))
    return Listing(rows=rows, has_splits=True)


def _listed(table: Path) -> dict[str, list[str]]:
    """Labels by file, from a list of the development set."""
    found: dict[str, list[str]] = {}
    for where, values in read_table(table, ("id", "start", "end", "labels"), header=False):
        file = f"{values['id']}_{values['start']}_{values['end']}.wav"
        _check_segment(file, where)
        _add(found, file, re.split(r",(?! )", values["labels"]), where)
    return found


def _released(table: Path) -> dict[str, list[str]]:
    """Labels by file, from the ground truth of the evaluation set."""
    found: dict[str, list[str]] = {}
    for where, values in read_table(table, ("file", "start", "end", "label"), "\t", header=False):
        file = values["file"].removeprefix("Y") if len(values["file"].split("_", 1)[0]) > 11 else values["file"]
        _check_segment(file, where)
        _add(found, file, [values["label"]], where)
    return found


def _add(found: dict[str, list[str]], file: str, labels: Iterable[str], where: str) -> None:
    for label in labels:
        if label not in CLASSES:
            raise DataError(f"{where}: {unknown_name('label', label, CLASSES)}")
        if label not in found.setdefault(file, []):
            found[file].append(label)


def _check_segment(file: str, where: str) -> None:
    if not _SEGMENT.fullmatch(file):
        raise DataError(f"{where}: {file!r} is no clip; expected <YouTube id>_<start>_<end>.wav")


def _video(file: str) -> str:
    match = _SEGMENT.fullmatch(file)
    return match["id"] if match else file
