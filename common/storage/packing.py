"""Clips of an artifact as one tar shard, for clusters: KFP's launcher moves an artifact's files one after another.

A stage writes and reads the AudioFolder `clips/`. Between stages it is `clips.tar`: `metadata.jsonl`, then the audio
files by name, so that a reader of the stream has the records before the clips. Whoever downloads an artifact gets the
AudioFolder with `tar xf clips.tar`.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

from common.errors import StorageError
from common.storage.local import publish_dir, publish_file

CLIPS, METADATA = "clips", "metadata.jsonl"
PACK = "SYNTHIO_PACK_CLIPS"
"""Variable that is "1" where stages shall pack what they wrote."""


def packing() -> bool:
    """Whether stages shall pack the clips that they wrote."""
    return os.environ.get(PACK) == "1"


def pack(folder: Path) -> None:
    """Turn `folder/clips` into `folder/clips.tar`, whose bytes depend on its content alone; nothing to do without it.

    Raises StorageError: the disk is full or not writable; the clips are still there then.
    """
    clips = folder / CLIPS
    if not clips.is_dir():
        return
    files = sorted(clips.iterdir(), key=lambda path: (path.name != METADATA, path.name))
    with publish_file(_shard(folder)) as part, tarfile.open(part, "w", format=tarfile.GNU_FORMAT) as shard:
        for path in files:
            member = tarfile.TarInfo(f"{CLIPS}/{path.name}")
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as content:
                shard.addfile(member, content)
    shutil.rmtree(clips)


def unpack(folder: Path) -> None:
    """Turn `folder/clips.tar` back into `folder/clips`; nothing to do where that was done or is not needed.

    Raises StorageError: the shard is damaged or holds other than plain files of `clips`, or the disk is full.
    """
    shard = _shard(folder)
    if not shard.is_file():
        return
    try:
        with publish_dir(folder / CLIPS) as clips, tarfile.open(shard, "r|") as stream:
            for member in stream:
                content = stream.extractfile(member) if member.isreg() else None
                parent, _, name = member.name.partition("/")
                if parent != CLIPS or content is None or Path(name).name != name or name in ("", "..", "."):
                    raise StorageError(f"{shard}: unexpected member {member.name!r}; expected files of {CLIPS}/ only")
                with (clips / name).open("wb") as target:
                    shutil.copyfileobj(content, target)
    except tarfile.TarError as error:
        raise StorageError(f"{shard} is damaged ({error}); run the same command again with FRESH=1") from error
    shard.unlink()


def _shard(folder: Path) -> Path:
    return folder / f"{CLIPS}.tar"
