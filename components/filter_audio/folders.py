"""Input and output folders of the filter, and the clips that it has decided on in the item store."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from common.records.audio_folder import clip_path, copy_audio_folder, read_clips
from common.records.clips import SyntheticClip, read_records
from common.records.provenance import copy_provenance

DECIDED = "decided.jsonl"


def sorted_clips(folder: Path) -> list[SyntheticClip]:
    """Records of an AudioFolder, by clip id. Raises DataError: the metadata is missing, or a line is no such record."""
    return sorted(read_clips(folder, SyntheticClip), key=lambda clip: clip.clip_id)


def write_clips(target: Path, sets: Mapping[Path, Sequence[SyntheticClip]]) -> None:
    """Write an AudioFolder from clips of others, by clip id, with their provenance."""
    clips = sorted((clip for own in sets.values() for clip in own), key=lambda clip: clip.clip_id)
    files = {clip.clip_id: clip_path(folder, clip) for folder, own in sets.items() for clip in own}
    copy_audio_folder(target, clips, files)
    copy_provenance(target, {folder: [clip.clip_id for clip in own] for folder, own in sets.items()})


def read_decided(item: Path) -> list[SyntheticClip]:
    """Clips of an item with the filter's decisions, by clip id."""
    return read_records(item / DECIDED, SyntheticClip)


def read_embeddings(folder: Path, replicate: int) -> np.ndarray:
    """Embeddings (N, D) of a replicate's accepted clips, sorted by clip id."""
    rows: np.ndarray = np.load(folder / "embeddings" / f"{replicate}.npy")
    return rows


def write_embeddings(
    target: Path, previous: Path | None, earlier: Sequence[SyntheticClip], items: Mapping[int, Path]
) -> None:
    """Write the embeddings of all accepted clips, those of `earlier` rounds among them, for later rounds."""
    (target / "embeddings").mkdir(exist_ok=True)
    for replicate in sorted({clip.replicate for clip in earlier} | items.keys()):
        ids = [clip.clip_id for clip in earlier if clip.replicate == replicate]
        rows = [read_embeddings(previous, replicate)] if previous and ids else []
        if replicate in items:
            decided = read_decided(items[replicate])
            kept = [row for row, clip in enumerate(decided) if clip.reason is None]
            rows.append(np.load(items[replicate] / "embeddings.npy")[kept])
            ids += [decided[row].clip_id for row in kept]
        order = sorted(range(len(ids)), key=ids.__getitem__)
        np.save(target / "embeddings" / f"{replicate}.npy", np.concatenate(rows)[order])
