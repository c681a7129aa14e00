"""GTZAN: `genres/{genre}/{genre}.{number}.au`, or `.wav`, with the artist-filtered split of `gtzan_filtered.yaml`.

In the copy on Kaggle the folder is called `genres_original`.

Seen: mir-dataset-loaders/mirdata, mirdata/datasets/gtzan_genre.py, commit 0bb58c15134ef43eb708d52db333752d02f8c611
(archive, genres, 22.05 kHz mono); pytorch/audio, torchaudio/datasets/gtzan.py, commit
0103a7ac41597e1cdc3ee5a091e18c08797263c3 (genres/ in the archive, names, the same split). Public code reads the clips
of the archive as .au as well as .wav: both are accepted.
"""

from collections.abc import Sequence
from pathlib import Path

import yaml

from common.datasets.native import check_folder, contents, entries, home
from common.datasets.rows import Listing, Row
from common.errors import DataError

SPLIT_FILE = Path(__file__).parent / "gtzan_filtered.yaml"
SUFFIXES = (".au", ".wav")
FOLDERS = ("genres", "genres_original")


def filtered_split() -> dict[tuple[str, int], str]:
    """Split (`train`, `val` or `test`) of each clip of the filtered split, by `(genre, number)`."""
    split: dict[tuple[str, int], str] = {}
    for name, genres in yaml.safe_load(SPLIT_FILE.read_text(encoding="utf-8")).items():
        for genre, ranges in genres.items():
            for numbers in ranges.split():
                first, _, last = numbers.partition("-")
                split |= {(genre, number): name for number in range(int(first), int(last or first) + 1)}
    return split


def list_clips(root: Path) -> Listing:
    """List the clips of the filtered split; artists are not named, so there are no groups.

    Clips outside the filtered split become ignored files: they are duplicates, distorted, or by an artist of another
    split.
    """
    split = filtered_split()
    genres = sorted({genre for genre, _ in split})
    top = _genres_folder(root, genres)
    listing = Listing()
    for genre in genres:
        check_folder(top / genre, f"clips such as {genre}.00000.au")
        names = {path.stem: path for path in entries(top / genre) if path.suffix.lower() in SUFFIXES}
        for name, path in names.items():
            number = name.removeprefix(f"{genre}.")
            source = f"{genre}/{path.name}"
            side = split.get((genre, int(number))) if number.isdecimal() else None
            if side is None:
                listing.ignored_files.append(source)
            else:
                listing.rows.append(Row(path, source, genre, side))
        if not any(row.label == genre for row in listing.rows):
            raise DataError(f"{top / genre}: expected clips such as {genre}.00000.au; found {contents(top / genre)}")
    return listing


def _genres_folder(root: Path, genres: Sequence[str]) -> Path:
    if all((root / genre).is_dir() for genre in genres):
        return root
    found = [place / name for name in FOLDERS for place in (root, *entries(root)) if (place / name).is_dir()]
    return found[0] if found else home(root, FOLDERS[0], "GTZAN")
