"""Artifacts between stages: their files are hashed and packed when a stage ends, unpacked and verified when one starts.

The hashes are stored in the artifact as `SHA256SUMS`, a file that `sha256sum -c` can check. While a stage runs, the
hashes of the inputs that it has verified are known, and `artifact_hash` reads no file of theirs again.

On clusters, where KFP's launcher moves an artifact's files one after another, the AudioFolder `clips/` is between
stages one file `clips.tar`: `metadata.jsonl`, then the audio files by name, so that a reader of the stream has the
records before the clips. Whoever downloads an artifact gets the AudioFolder with `tar xf clips.tar`.
"""

import hashlib
import os
import re
import shutil
import tarfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path

from common.errors import StorageError
from common.storage import write_text
from common.storage.hashing import SUMS_FILE, hash_file
from common.storage.local import publish_dir, publish_file

_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_MOUNTS = ("s3", "minio", "gcs")
"""Mount points of KFP's launcher for object-store artifacts: `/s3/bucket/key`."""
_THREADS = 4
_APART = {SUMS_FILE, "training.json", "monitor"}
"""Names at the top of an artifact that are not its content; the records of a training may hold times."""
_verified: ContextVar[dict[Path, str]] = ContextVar("verified")
"""Hashes of the files of verified inputs; a thread or process without them reads the files."""
CLIPS, METADATA, SHARD = "clips", "metadata.jsonl", "clips.tar"
PACK = "SYNTHIO_PACK_CLIPS"
"""Variable that is "1" where stages shall pack what they wrote."""


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes; the file is not read if it belongs to a verified input of the running stage."""
    return _verified.get({}).get(path.absolute()) or hash_file(path)


def artifact_hash(folder: Path, files: Iterable[Path] | None = None) -> str:
    """SHA-256 (hex) over the names and bytes of a folder's files, or of these `files` in it.

    Without `files`, its `SHA256SUMS` and the records of a training (`training.json`, `monitor/`) are left out.
    """
    if files is None:
        files = (p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).parts[0] not in _APART)
    digest = hashlib.sha256()
    for file in sorted(files):
        name = file.relative_to(folder).as_posix()
        digest.update(f"{name}\0{file_hash(file)}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def forget_verified() -> None:
    """Forget the hashes of verified inputs, whose files may change once the stage has ended."""
    _verified.set({})


def finish_artifact(folder: Path) -> None:
    """Hash all files of a finished output, and pack its clips where the environment asks for it."""
    write_sums(folder)
    if os.environ.get(PACK) == "1":
        pack(folder)


def write_sums(folder: Path) -> None:
    """Write the hashes of all files below `folder` to its `SHA256SUMS`.

    KFP's launcher stores files only. So folders without any are removed, here as there, and a link to a folder or to
    nothing, on which the launcher fails, is refused with a StorageError, as is a name with a line break.
    """
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        if path.is_symlink() and not path.is_file():
            kind = "a folder" if path.is_dir() else "nothing"
            raise StorageError(f"{path} is a link to {kind}, which cannot be stored; this is a fault of the stage")
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = sorted(name for name in files if name != SUMS_FILE)
    if odd := [name for name in names if "\n" in name]:
        raise StorageError(f"{folder} has a file whose name has a line break: {odd[0]!r}; this is a fault of the stage")
    rows = zip(_hashes(folder, names), names, strict=True)
    write_text(folder / SUMS_FILE, "".join(f"{digest}  {name}\n" for digest, name in rows))


def verify_artifact(stage: str, name: str, folder: Path) -> None:
    """Unpack an input and verify it against its `SHA256SUMS`; one without that file only has to be non-empty.

    Raises StorageError: a file is missing or differs; the one-line message names it and the remedy.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        raise _gone(stage, name, folder, f"{folder} is {'empty' if folder.is_dir() else 'not there'}")
    unpack(folder)
    sums = folder / SUMS_FILE
    if not sums.is_file():
        return
    expected: dict[str, str] = {}
    for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            raise _gone(stage, name, folder, f"{sums} is damaged")
        expected[match[2]] = match[1]
    if missing := [file for file in expected if not (folder / file).is_file()]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise _gone(stage, name, folder, f"{folder / missing[0]}{more} is not there")
    for file, found in zip(expected, _hashes(folder, list(expected)), strict=True):
        if found != expected[file]:
            raise _gone(stage, name, folder, f"{folder / file} does not have the hash in {SUMS_FILE}")
    known = {(folder / file).absolute(): digest for file, digest in expected.items()}
    _verified.set(_verified.get({}) | known)


def _hashes(folder: Path, names: Sequence[str]) -> list[str]:
    try:
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(lambda name: hash_file(folder / name), names))
    except OSError as error:
        raise StorageError(f"cannot read {folder}: {error}; check the disk and the folder's permissions") from error


def how_to_remake(folder: Path) -> str:
    """Instruction to the user for remaking the artifact in `folder` instead of reusing a cached task."""
    parts = folder.absolute().parts
    if len(parts) > 3 and parts[1] in _MOUNTS:
        return "run the same command again with FRESH=1"
    # kfp re-runs a cached task whose artifact is missing.
    return f"rm -rf '{folder}' and run the same command again"


def _gone(stage: str, name: str, folder: Path, found: str) -> StorageError:
    return StorageError(
        f"input {name} of stage {stage} is gone or damaged: {found}; to make it anew: {how_to_remake(folder)}"
    )


def pack(folder: Path) -> None:
    """Turn `folder/clips` into `folder/clips.tar`, whose bytes depend on its content alone; nothing to do without it.

    Raises StorageError: the disk is full or not writable; the clips are still there then.
    """
    clips = folder / CLIPS
    if not clips.is_dir():
        return
    files = sorted(clips.iterdir(), key=lambda path: (path.name != METADATA, path.name))
    with publish_file(folder / SHARD) as part, tarfile.open(part, "w", format=tarfile.GNU_FORMAT) as shard:
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
    shard = folder / SHARD
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
