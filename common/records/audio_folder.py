"""Audio sets on disk: `clips/metadata.jsonl` (one record per line) beside FLAC files named by clip id.

The folder `clips` opens with `datasets.load_dataset("audiofolder", data_dir=…)`.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from common.audio.signal import read_mono
from common.errors import DataError
from common.records.clips import GoldClip, SyntheticClip, read_records
from common.runtime.split_guard import check_may_open
from common.storage import publish_dir
from common.storage.artifacts import CLIPS, METADATA, file_hash

Clip = TypeVar("Clip", GoldClip, SyntheticClip)


def copy_audio_folder(folder: Path, records: Iterable[Clip], files: Mapping[str, Path]) -> None:
    """Write `folder/clips` from existing FLAC files, hard-linked where possible, replacing an existing one.

    Args:
        records: in the metadata's order.
        files: by clip id.

    Raises:
        DataError: a record has no file, or two records share a clip id or file name.
        StorageError: the disk is full or not writable; nothing is published then.
    """
    final = folder / CLIPS
    seen: set[str] = set()
    with publish_dir(final) as clips, (clips / METADATA).open("w", encoding="utf-8") as metadata:
        for record in records:
            name = _plain(record)
            if {record.clip_id, f"/{name}"} & seen:
                raise DataError(f"{folder}: clip {record.clip_id!r} or its file {name!r} comes twice")
            seen |= {record.clip_id, f"/{name}"}
            if record.clip_id not in files:
                raise DataError(f"{folder}: no file for the record {record.clip_id!r}")
            source = files[record.clip_id]
            try:
                os.link(source, clips / name)
            except OSError:
                shutil.copyfile(source, clips / name)
            metadata.write(record.model_dump_json() + "\n")
        # Remove the clips of an earlier attempt only once the new ones are complete.
        metadata.flush()
        shutil.rmtree(final, ignore_errors=True)


def read_clips(folder: Path, kind: type[Clip]) -> list[Clip]:
    """Read the records of `folder/clips`, in the order of the metadata.

    Raises DataError: the metadata is missing or a line is not a valid record; or these are test clips and the running
    stage is not `evaluate_classifier`.
    """
    check_may_open(folder)
    return read_records(folder / CLIPS / METADATA, kind)


def clip_path(folder: Path, record: GoldClip | SyntheticClip) -> Path:
    """Path of a record's audio file.

    Raises DataError: these are test clips and the running stage is not `evaluate_classifier`.
    """
    check_may_open(folder)
    return folder / CLIPS / _plain(record)


def clips_hash(folder: Path, records: Iterable[GoldClip | SyntheticClip]) -> str:
    """SHA-256 (hex) over records and audio of some clips, in this order."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(f"{record.model_dump_json()}\0{file_hash(clip_path(folder, record))}\n".encode())
    return digest.hexdigest()


def load_clip(folder: Path, record: GoldClip | SyntheticClip, sample_rate_hz: int) -> np.ndarray:
    """Load a clip's audio, mono `(T,)` float32 at `sample_rate_hz`.

    Raises DataError: the file is missing or damaged.
    """
    return read_mono(clip_path(folder, record), sample_rate_hz)


def _plain(record: GoldClip | SyntheticClip) -> str:
    name = record.file_name
    if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise DataError(f"clip {record.clip_id!r}: file name {name!r}; expected a plain name beside the metadata")
    return name
