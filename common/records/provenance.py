"""Provenance of synthetic clips, enough to regenerate each: `provenance.jsonl` beside an AudioFolder's `clips`."""

import heapq
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from common.errors import DataError
from common.records.clips import Prompt
from common.storage import publish_file

PROVENANCE = "provenance.jsonl"


class Provenance(Prompt):
    """Everything that determines a clip's samples, and the clip's place in the run.

    With the model folder (and the file of the clip, where sampling started from one) the same bytes come out wherever
    `environment` is the same. On the CPU a clip depends on the batch size only, not on its neighbours or its position
    in the batch; fill the batch up with copies.
    """

    clip_id: str
    sha256: str = Field(description="of the FLAC file")
    model_hash: str = Field(description="hash of the text-to-audio folder")
    model: dict[str, Any] = Field(description="where the model comes from: id, revision, licence, as far as known")
    gold_licence: str = Field(description="of the dataset that the gold clips belong to")
    sampling_seed: int = Field(description="of the clip's generator")
    duration_s: float = Field(description="of the condition; the audio is cut to it")
    frames: int = Field(description="length of the latents of a window")
    windows: int = Field(default=1, description="of the model, one after the other")
    start: Literal["noise", "source", "corpus"]
    start_clip_id: str | None = Field(default=None, description="of the corpus clip, where one is the start")
    noise_level: float | None = Field(description="of a start from a clip")
    source_sha256: str | None = Field(description="of the file of the clip that is the start")
    target_rms_dbfs: float = Field(description="loudness of the source clip")
    recording: dict[str, tuple[float, ...]] | None = Field(
        default=None, description="equaliser and noise that matched it to gold's recording conditions, in dB per band"
    )
    gain_db: float = Field(description="applied to reach it, or as much as the peak limit allowed")
    signal: str = Field(description="ok, or the reason code of the signal checks")
    settings: dict[str, Any] = Field(description="of synthesize_audio: sampler, batch size, precision, loudness")
    code_version: str
    environment: dict[str, Any] = Field(description="device, precision in effect, versions of libraries")


def write_provenance(folder: Path, records: Iterable[Provenance]) -> None:
    """Write `folder/provenance.jsonl` atomically; `records` come sorted by clip id, one by one.

    Raises StorageError: the disk is full or not writable.
    """
    _write(folder, (record.model_dump_json() + "\n" for record in records))


def read_provenance(folder: Path, clip_id: str) -> Provenance:
    """Read the provenance of one clip. Raises DataError: the clip has no provenance in this folder."""
    for found, line in _lines(folder):
        if found == clip_id:
            return Provenance.model_validate_json(line)
    raise DataError(f"{folder / PROVENANCE} has no clip {clip_id!r}; expected the folder of an artifact that holds it")


def copy_provenance(target: Path, sources: Mapping[Path, Iterable[str]]) -> None:
    """Copy the provenance of chosen clips from other artifacts to `target`, unchanged, sorted by clip id.

    `sources` tells the clip ids by artifact; one without provenance contributes nothing.
    """
    parts = [_chosen(folder, frozenset(clip_ids)) for folder, clip_ids in sources.items()]
    _write(target, (line for _, line in heapq.merge(*parts)))


def _write(folder: Path, lines: Iterable[str]) -> None:
    # Written line by line; a run has tens of thousands of records of a few kilobytes each.
    with publish_file(folder / PROVENANCE) as part, part.open("w", encoding="utf-8") as file:
        file.writelines(lines)


def _chosen(folder: Path, wanted: frozenset[str]) -> Iterator[tuple[str, str]]:
    return ((clip_id, line) for clip_id, line in _lines(folder) if clip_id in wanted)


def _lines(folder: Path) -> Iterator[tuple[str, str]]:
    path = folder / PROVENANCE
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["clip_id"], line
