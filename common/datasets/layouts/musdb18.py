"""MUSDB18-HQ: `train/<track>/` and `test/<track>/` with `bass`, `drums`, `mixture`, `other` and `vocals.wav`.

Seen: pytorch/audio, torchaudio/datasets/musdb_hq.py, commit 54822daf02b8ff295cbb03bf92e8fe9b573f712e (folders, five
files per track, 44.1 kHz, the archive's SHA-256). The compressed MUSDB18 (`<track>.stem.mp4`) is not supported: its
streams need ffmpeg.

A file is one clip: `prepare_dataset` keeps its loudest window (`max_duration_s`), and every model cuts its own shorter
window from that, so a stem that is silent for most of a track is represented by a part where it plays.
"""

from pathlib import Path

from common.datasets.native import check_folder, contents, entries, home
from common.datasets.rows import Listing, Row
from common.errors import DataError

STEMS = ("bass", "drums", "mixture", "other", "vocals")


def list_clips(root: Path) -> Listing:
    """List all stems and mixtures with the official split; the label is the stem, the group the track."""
    top = home(root, "train", "MUSDB18-HQ")
    rows = []
    for split in ("train", "test"):
        check_folder(top / split, "a folder for each track")
        if packed := sorted((top / split).glob("*.stem.mp4")):
            raise DataError(
                f"{packed[0]}: the compressed MUSDB18 needs ffmpeg; get MUSDB18-HQ, or decode each track "
                f"to a folder with {', '.join(f'{stem}.wav' for stem in STEMS)}"
            )
        for track in (path for path in entries(top / split) if path.is_dir() and path.name[0] != "."):
            lacking = [f"{stem}.wav" for stem in STEMS if not (track / f"{stem}.wav").is_file()]
            if lacking:
                raise DataError(
                    f"{track} lacks {', '.join(lacking)}; found {contents(track)}; unpack the original archive again"
                )
            for stem in STEMS:
                source = f"{split}/{track.name}/{stem}.wav"
                rows.append(Row(top / source, source, stem, split, track.name))
    return Listing(rows=rows)
