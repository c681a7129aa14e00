"""VocalSound: `datafiles/{tr,val,te}.json` and `audio_16k/<speaker>_<collection>_<sound>.wav` (or `audio_44k/`).

Seen: YuanGongND/vocalsound, README.md, commit 3d44945e3b511e0f9ec4d75bacd114292692e362 (folders, file names, three
splits), and src/prep_data.py, commit 4ac4fcc8e631a8bf7360fa262abd9a297e4fa63f (`{"data": [{"wav": path}]}`, of which
only the file's name counts). That `labels` holds one AudioSet id, and which ids, was seen in readers of the dataset
whose repository the index does not name. The archive itself was not opened.
"""

from pathlib import Path, PurePosixPath

from common.datasets.native import check_folder, contents, home, read_object, text_of
from common.datasets.rows import Listing, Row
from common.errors import DataError, unknown_name

SPLITS = {"train": "tr", "val": "val", "test": "te"}
FOLDERS = ("audio_16k", "audio_44k")
LABELS = {
    "/m/01j3sz": "laughter",
    "/m/07plz5l": "sigh",
    "/m/01b_21": "cough",
    "/m/0dl9sf8": "throat clearing",
    "/m/01hsr_": "sneeze",
    "/m/07ppn3j": "sniff",
}


def list_clips(root: Path) -> Listing:
    """List all clips with the official split; the group is the speaker, such as `f0003`."""
    top = home(root, "datafiles/tr.json", "VocalSound")
    folder = next((name for name in FOLDERS if (top / name).is_dir()), None)
    if folder is None:
        raise DataError(
            f"{top} has no {' or '.join(FOLDERS)}; found {contents(top)}; unpack the original archive again"
        )
    check_folder(top / folder, "the clips, such as f0003_0_cough.wav")
    rows = []
    for split, name in SPLITS.items():
        table = top / "datafiles" / f"{name}.json"
        entries = read_object(table).get("data")
        if not isinstance(entries, list) or not entries:
            raise DataError(f"{table}: expected a list of clips under `data`; unpack the original archive again")
        for number, entry in enumerate(entries, start=1):
            where = f"{table}, clip {number}"
            label = text_of(entry, "labels", where)
            if label not in LABELS:
                raise DataError(f"{where}: {unknown_name('label', label, LABELS)}")
            file = PurePosixPath(text_of(entry, "wav", where)).name
            speaker, _, rest = file.partition("_")
            if not rest:
                raise DataError(f"{where}: {file!r} names no speaker; expected a name such as f0003_0_cough.wav")
            rows.append(Row(top / folder / file, f"{folder}/{file}", LABELS[label], split, speaker))
    return Listing(rows=rows)
