"""FSD50K: `FSD50K.ground_truth/{dev,eval,vocabulary}.csv`, `FSD50K.dev_audio/` and `FSD50K.eval_audio/`.

Seen: soundata/soundata, soundata/datasets/fsd50k.py, commit 009ec15e0a0c4b7a8d8fc3f013cfbe212b2c1492 (columns fname,
labels, mids and, in dev.csv, split with train or val; labels separated by commas and propagated upwards; vocabulary.csv
without a header: number, label, mid; FSD50K.metadata/{dev,eval}_clips_info_FSD50K.json by clip with the uploader). The
archives themselves were not opened.
"""

from pathlib import Path

from common.datasets.native import check_folder, home, read_object, read_table
from common.datasets.rows import Listing, Row
from common.errors import DataError, unknown_name

TRUTH = "FSD50K.ground_truth"
PARTS = {"dev": ("fname", "labels", "split"), "eval": ("fname", "labels")}
SPLITS = {"train": "train", "val": "val"}


def list_clips(root: Path) -> Listing:
    """List all clips with all their labels and the official split; the group is the uploader, if the metadata exist."""
    top = home(root, f"{TRUTH}/dev.csv", "FSD50K")
    named = read_table(top / TRUTH / "vocabulary.csv", ("number", "label", "mid"), header=False)
    vocabulary = [values["label"] for _, values in named]
    rows = []
    for part, columns in PARTS.items():
        folder = f"FSD50K.{part}_audio"
        check_folder(top / folder, "the clips, such as 64760.wav")
        uploaders = _uploaders(top / "FSD50K.metadata" / f"{part}_clips_info_FSD50K.json")
        for where, values in read_table(top / TRUTH / f"{part}.csv", columns):
            split = values.get("split") if part == "dev" else "test"
            if part == "dev" and split not in SPLITS:
                raise DataError(f"{where}: split {split!r}; expected train or val")
            labels = list(dict.fromkeys(values["labels"].split(",")))
            for label in labels:
                if label not in vocabulary:
                    raise DataError(f"{where}: {unknown_name('label', label, vocabulary)}")
            name = values["fname"]
            source = f"{folder}/{name}.wav"
            rows.append(Row(top / source, source, labels[0], split, uploaders.get(name), tuple(labels[1:])))
    return Listing(rows=rows)


def _uploaders(table: Path) -> dict[str, str]:
    """Uploader by clip; empty without the metadata."""
    if not table.is_file():
        return {}
    clips = read_object(table)
    return {name: facts["uploader"] for name, facts in clips.items() if isinstance(facts, dict) and "uploader" in facts}
