"""Input and output folders of the filter, streamed clip by clip; full records never pile up in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from heapq import merge
from pathlib import Path

import numpy as np

from common.records.audio_folder import clips_hash, copy_audio_folder
from common.records.clips import SyntheticClip, stream_records
from common.records.provenance import copy_provenance
from common.storage.artifacts import CLIPS, METADATA
from components.filter_audio.candidates import Candidate, Decision

DECISIONS = "decisions.jsonl"


class Listing:
    """Clips of an AudioFolder, sorted by clip id; full records stay on disk.

    Raises DataError: the metadata is missing, or a line is no record of a synthetic clip.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / CLIPS / METADATA
        rows = [(Candidate.of(clip), start) for start, clip in stream_records(self._file, SyntheticClip)]
        rows.sort(key=lambda row: row[0].clip_id)
        self.clips: tuple[Candidate, ...] = tuple(clip for clip, _ in rows)
        self._starts = [start for _, start in rows]

    def __iter__(self) -> Iterator[SyntheticClip]:
        """Full records, sorted by clip id, read one by one."""
        with self._file.open("rb") as lines:
            for start in self._starts:
                lines.seek(start)
                yield SyntheticClip.model_validate_json(lines.readline())

    def audio_file(self, clip: Candidate | SyntheticClip) -> Path:
        """Audio file of a clip."""
        return self.folder / CLIPS / clip.file_name

    def content(self, replicate: int) -> str:
        """Hash of the records and audio of a replicate."""
        return clips_hash(self.folder, (clip for clip in self if clip.replicate == replicate))


def write_clips(folder: Path, *sets: tuple[Listing, Iterable[SyntheticClip]]) -> None:
    """Write an AudioFolder from clips of others, each set sorted by clip id, with their provenance."""
    files: dict[str, Path] = {}
    taken: dict[Path, list[str]] = {listing.folder: [] for listing, _ in sets}

    def tagged(listing: Listing, clips: Iterable[SyntheticClip]) -> Iterator[tuple[SyntheticClip, Listing]]:
        return ((clip, listing) for clip in clips)

    def records() -> Iterator[SyntheticClip]:
        streams = [tagged(*one) for one in sets]
        for clip, listing in merge(*streams, key=lambda pair: pair[0].clip_id):
            files[clip.clip_id] = listing.audio_file(clip)
            taken[listing.folder].append(clip.clip_id)
            yield clip

    copy_audio_folder(folder, records(), lambda clip: files.pop(clip.clip_id))
    copy_provenance(folder, taken)


def write_decisions(folder: Path, decisions: Sequence[Decision]) -> None:
    """Write decisions as JSON lines."""
    with (folder / DECISIONS).open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(asdict(decision)) + "\n" for decision in decisions)


def read_decisions(folder: Path) -> Iterator[Decision]:
    """Decisions of an item, in the order of the clips."""
    with (folder / DECISIONS).open(encoding="utf-8") as lines:
        for line in lines:
            yield Decision(**json.loads(line))


def read_embeddings(folder: Path, replicate: int) -> np.ndarray:
    """Embeddings (N, D) of a replicate's accepted clips, sorted by clip id."""
    rows: np.ndarray = np.load(folder / "embeddings" / f"{replicate}.npy")
    return rows


def write_embeddings(folder: Path, before: Listing | None, items: Mapping[int, Path]) -> None:
    """Write the embeddings of all accepted clips, for later rounds."""
    (folder / "embeddings").mkdir(exist_ok=True)
    earlier = before.clips if before else ()
    for replicate in sorted({clip.replicate for clip in earlier} | items.keys()):
        ids = [clip.clip_id for clip in earlier if clip.replicate == replicate]
        rows = [read_embeddings(before.folder, replicate)] if before and ids else []
        if replicate in items:
            decided = list(read_decisions(items[replicate]))
            kept = [row for row, decision in enumerate(decided) if decision.reason is None]
            rows.append(np.load(items[replicate] / "embeddings.npy")[kept])
            ids += [decided[row].clip_id for row in kept]
        order = sorted(range(len(ids)), key=ids.__getitem__)
        np.save(folder / "embeddings" / f"{replicate}.npy", np.concatenate(rows)[order])
