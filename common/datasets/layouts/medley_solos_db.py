"""Medley-solos-DB: `Medley-solos-DB_metadata.csv` and `Medley-solos-DB_{subset}-{instrument_id}_{uuid4}.wav`.

Seen: mir-dataset-loaders/mirdata, mirdata/datasets/medley_solos_db.py, commit
08c429299031fc1459b445aaee3066a05a142f7e (table in annotation/, clips in audio/), with
tests/resources/mir_datasets/medley_solos_db/annotation/Medley-solos-DB_metadata.csv, commit
0c27892b834f0fbc3c36c52152dc519e6dd3e1fe (header, one row), and the clip of that row in audio/, commit
c6bad036865f274b7955b91b99cd3d2bfc6dfe14 (naming).
"""

from pathlib import Path

from common.datasets.native import contents, home, read_table
from common.datasets.rows import SPLITS, Listing, Row
from common.errors import DataError

TABLE = "Medley-solos-DB_metadata.csv"
COLUMNS = ("subset", "instrument", "instrument_id", "song_id", "uuid4")


def list_clips(root: Path) -> Listing:
    """List all clips with the official subset as split; the group is the song.

    The table may be in `annotation/`, and the clips in `audio/` or beside the table.
    """
    annotated = root / "annotation" / TABLE
    table = annotated if annotated.exists() else home(root, TABLE, "Medley-solos-DB") / TABLE
    folder = _clips_folder(root, table)
    rows = []
    for where, values in read_table(table, COLUMNS):
        if values["subset"] not in ("training", "validation", "test"):
            raise DataError(f"{where}: subset is {values['subset']!r}; expected training, validation or test")
        name = f"Medley-solos-DB_{values['subset']}-{values['instrument_id']}_{values['uuid4']}.wav"
        split = SPLITS[values["subset"]]
        rows.append(Row(folder / name, name, values["instrument"], split, values["song_id"] or None))
    return Listing(rows=rows)


def _clips_folder(root: Path, table: Path) -> Path:
    places = dict.fromkeys((root / "audio", table.parent / "audio", table.parent, root))
    for place in places:
        if place.is_dir() and any(place.glob("Medley-solos-DB_*.wav")):
            return place
    raise DataError(
        f"{root} has no clips of Medley-solos-DB: expected audio/Medley-solos-DB_test-0_….wav; found {contents(root)}; "
        "unpack Medley-solos-DB.tar.gz there"
    )
