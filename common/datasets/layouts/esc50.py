"""ESC-50: `meta/esc50.csv` and `audio/*.wav`, five folds by recording.

Seen: soundata/soundata, soundata/datasets/esc50.py, commit 009ec15e0a0c4b7a8d8fc3f013cfbe212b2c1492 (the columns of
meta/esc50.csv, ESC-50-master/ in the archive); karolpiczak/ESC-50, names below audio/, commit
f2fd956acf66ebd9ac7e2110711aa78dd684d042.
"""

from pathlib import Path

from common.datasets.native import check_folder, check_folds, home, read_table, whole_number
from common.datasets.rows import Listing, Row

TABLE = "meta/esc50.csv"
FOLDS = 5


def list_clips(root: Path) -> Listing:
    """List all clips, each with its fold; the group is the Freesound recording (`src_file`)."""
    top = home(root, TABLE, "ESC-50")
    check_folder(top / "audio", "the 2000 clips, such as 1-100032-A-0.wav")
    rows = []
    for where, values in read_table(top / TABLE, ("filename", "fold", "category", "src_file")):
        source = f"audio/{values['filename']}"
        fold = whole_number(values["fold"], where, "fold")
        rows.append(Row(top / source, source, values["category"], group=values["src_file"] or None, fold=fold))
    check_folds((row.fold for row in rows if row.fold is not None), FOLDS, top / TABLE)
    return Listing(rows=rows)
