"""The folders that the filter writes: clips, and the embeddings of those accepted."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from common.audio_folder import read_clips
from common.records import SyntheticClip, read_records, write_records


def read_sorted(folder: Path) -> list[SyntheticClip]:
    """The clips of an AudioFolder by clip id."""
    return sorted(read_clips(folder, SyntheticClip), key=lambda clip: clip.clip_id)


def audio_file(folder: Path, clip: SyntheticClip) -> Path:
    """Where a clip's audio lies in an AudioFolder."""
    return folder / "clips" / clip.file_name


def write_clips(folder: Path, clips: Iterable[SyntheticClip], sources: Mapping[str, Path]) -> None:
    """Write an AudioFolder by copying files as they are.

    Args:
        folder: of the artifact.
        clips: in any order; written by clip id.
        sources: clip id to the artifact folder that its audio comes from.
    """
    ordered = sorted(clips, key=lambda clip: clip.clip_id)
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    for clip in ordered:
        shutil.copyfile(audio_file(sources[clip.clip_id], clip), audio_file(folder, clip))
    write_records(folder / "clips" / "metadata.jsonl", ordered)


def read_embeddings(folder: Path, seed: int) -> np.ndarray:
    """Embeddings (N, D) of a seed's accepted clips, by clip id."""
    rows: np.ndarray = np.load(folder / "embeddings" / f"{seed}.npy")
    return rows


def write_embeddings(
    folder: Path, before: Sequence[SyntheticClip], previous: Path | None, items: Mapping[int, Path]
) -> None:
    """Write the embeddings of all accepted clips, for the rounds to come.

    Args:
        folder: of the artifact of accepted clips.
        before: clips accepted in earlier rounds.
        previous: folder of the artifact of those.
        items: by seed, this round's finished item.
    """
    (folder / "embeddings").mkdir(exist_ok=True)
    for seed in sorted({clip.seed for clip in before} | items.keys()):
        ids = sorted(clip.clip_id for clip in before if clip.seed == seed)
        rows = [read_embeddings(previous, seed)] if previous is not None and ids else []
        if seed in items:
            decided = read_records(items[seed] / "clips.jsonl", SyntheticClip)
            kept = [row for row, clip in enumerate(decided) if clip.reason is None]
            rows.append(np.load(items[seed] / "embeddings.npy")[kept])
            ids += [decided[row].clip_id for row in kept]
        order = sorted(range(len(ids)), key=ids.__getitem__)
        np.save(folder / "embeddings" / f"{seed}.npy", np.concatenate(rows)[order])
