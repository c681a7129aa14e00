"""UrbanSound8K: `metadata/UrbanSound8K.csv` and `audio/fold1` to `audio/fold10`, ten folds by recording.

Seen: soundata/soundata, soundata/datasets/urbansound8k.py, commit 009ec15e0a0c4b7a8d8fc3f013cfbe212b2c1492 (the
columns, UrbanSound8K/ in the archive), with tests/resources/sound_datasets/urbansound8k/audio/fold1, commit
702333c306d518d669b0fc2decb16aab93aab937; the table itself in Luno82o/FinalProject-Impossible,
metadata/UrbanSound8K.csv, commit f9a1e71575a638012f719f421581a2394b5922e4.
"""

from pathlib import Path

from common.datasets.native import check_folder, check_folds, home, read_table, whole_number
from common.datasets.rows import Listing, Row

TABLE = "metadata/UrbanSound8K.csv"
FOLDS = 10


def list_clips(root: Path) -> Listing:
    """List all clips, each with its fold; the group is the Freesound recording (`fsID`)."""
    top = home(root, TABLE, "UrbanSound8K")
    rows = []
    for where, values in read_table(top / TABLE, ("slice_file_name", "fsID", "fold", "class")):
        fold = whole_number(values["fold"], where, "fold")
        source = f"audio/fold{fold}/{values['slice_file_name']}"
        rows.append(Row(top / source, source, values["class"], group=values["fsID"] or None, fold=fold))
    check_folds((row.fold for row in rows if row.fold is not None), FOLDS, top / TABLE)
    for fold in range(1, FOLDS + 1):
        check_folder(top / "audio" / f"fold{fold}", f"the clips of fold {fold}")
    return Listing(rows=rows)
