"""TUT Urban Acoustic Scenes 2018, development set: `meta.csv`, `evaluation_setup/fold1_*.txt` and `audio/*.wav`.

Seen: DCASE-REPO/dcase_util, dcase_util/datasets/tut.py (`TUTUrbanAcousticScenes_2018_DevelopmentSet`), commit
a2694b0b9ad4592c9c27c935fb92b0e5751b8ab4 (archives, one fold, identifier = city and location of the file's name);
qiuqiangkong/dcase2018_task1, utils/features.py and utils/data_generator.py, commit
a0d78291a98ebcd1a4d12b9a4e24805a7d7999bf (meta.csv: tabs, a header with filename, scene_label, identifier and
source_label; the lists of the fold: tabs, no header). The dataset's own README says: {scene}-{city}-{location
id}-{segment id}-{device id}.wav, and that files of one location id belong on one side.
"""

from pathlib import Path

from common.datasets.native import check_folder, home, read_table
from common.datasets.rows import Listing, Row
from common.errors import DataError

TABLE = "meta.csv"
LISTS = {"train": "evaluation_setup/fold1_train.txt", "test": "evaluation_setup/fold1_evaluate.txt"}


def list_clips(root: Path) -> Listing:
    """List all clips with the official split; the group is the recording location (`identifier`)."""
    top = home(root, LISTS["train"], "TUT Urban Acoustic Scenes 2018 (development)")
    check_folder(top / "audio", "the clips, such as airport-barcelona-0-0-a.wav")
    splits: dict[str, str] = {}
    for split, name in LISTS.items():
        for where, values in read_table(top / name, ("filename", "scene_label"), "\t", header=False):
            if splits.setdefault(values["filename"], split) != split:
                raise DataError(f"{where}: {values['filename']} is in {LISTS['train']} too; unpack the archive again")
    rows = []
    for where, values in read_table(top / TABLE, ("filename", "scene_label", "identifier"), "\t"):
        source = values["filename"]
        if source not in splits:
            raise DataError(f"{where}: {source} is in neither list of {top / 'evaluation_setup'}; unpack it again")
        rows.append(Row(top / source, source, values["scene_label"], splits.pop(source), values["identifier"] or None))
    if splits:
        first = next(iter(splits))
        raise DataError(f"{top / TABLE} lacks {len(splits)} clips of the split, such as {first}; unpack it again")
    return Listing(rows=rows)
