"""DCASE 2017 task 4: `metadata/` with the official lists beside `training/`, `testing/` and `evaluation/`.

Seen: ankitshah009/Task-4-Large-scale-weakly-supervised-sound-event-detection-for-smart-cars: testing_set.csv, commit
368958e4fa65c2f58c120c82eb541f9aa74e6a08 (no header; YouTube id, start, end, labels, AudioSet ids; a comma inside a
label has a space after it, one between labels has none); groundtruth_weak_label_testing_set.csv, commit
0dd75f6445a54384d845490671d5dc6a163f617a, and groundtruth_release/groundtruth_weak_label_evaluation_set.csv, commit
2127761812763b95f6c000a1a7db73992b489412 (tabs, one line for each label of a file `<id>_<start>_<end>.wav`). Its README
says that downloaded files have a `Y` before the id. The folders are those which a published training code asks for;
the index does not name its repository. The audio archives, behind a password, were not opened.
"""

import re
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
    *("Air horn, truck horn", "Ambulance (siren)", "Bicycle", "Bus", "Car", "Car alarm", "Car passing by"),
    *("Civil defense siren", "Fire engine, fire truck (siren)", "Motorcycle", "Police car (siren)"),
    *("Reversing beeps", "Screaming", "Skateboard", "Train", "Train horn", "Truck"),
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
        for file, (video, labels) in _listed(root / "metadata" / name, released=split == "test").items():
            source = f"{folder}/Y{file}" if f"Y{file}" in present else f"{folder}/{file}"
            first, *further = labels
            rows.append(Row(root / source, source, first, split, video, tuple(further)))
    return Listing(rows=rows)


def _listed(table: Path, released: bool) -> dict[str, tuple[str, list[str]]]:
    """Video and labels by file, from a list of the development set, or the released truth of the evaluation set."""
    found: dict[str, tuple[str, list[str]]] = {}
    columns = ("file" if released else "id", "start", "end", "labels")
    for where, values in read_table(table, columns, "\t" if released else ",", header=False):
        if released:
            file, labels = values["file"], [values["labels"]]
            file = file.removeprefix("Y") if len(file.split("_", 1)[0]) > 11 else file
        else:
            file = f"{values['id']}_{values['start']}_{values['end']}.wav"
            labels = re.split(r",(?! )", values["labels"])
        match = _SEGMENT.fullmatch(file)
        if match is None:
            raise DataError(f"{where}: {file!r} is no clip; expected <YouTube id>_<start>_<end>.wav")
        _, known = found.setdefault(file, (match["id"], []))
        for label in labels:
            if label not in CLASSES:
                raise DataError(f"{where}: {unknown_name('label', label, CLASSES)}")
            if label not in known:
                known.append(label)
    return found
