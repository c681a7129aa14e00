"""Atomic publishing on a file system.

A file or folder is written beside its final place and renamed, so it appears under its final name only when complete.
"""

import errno
import fcntl
import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import StorageError
from common.storage.hashing import changed


@contextmanager
def publish_dir(final: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `final` when the block ends without an error.

    Nothing is left behind on an error. A `final` that appeared in the meantime is kept (same key, same content).

    Raises StorageError: the disk is full or not writable.
    """
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    except OSError as error:
        raise _storage_error(error, final) from error
    try:
        yield temporary
        temporary.chmod(0o755)
        try:
            temporary.rename(final)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY) or not final.is_dir():
                raise
    except OSError as error:
        raise _storage_error(error, final) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def publish_file(final: Path) -> Iterator[Path]:
    """Yield the path of an empty file that becomes `final` when the block ends without an error; else nothing is left.

    It is created beside `final`, with the folder, so that a place that cannot be written is told before the work.

    Raises StorageError: `final` is a folder, or the disk is full or not writable.
    """
    temporary: Path | None = None
    try:
        if final.is_dir():
            raise StorageError(f"cannot write {final}: it is a folder; name a file")
        final.parent.mkdir(parents=True, exist_ok=True)
        # The suffix is kept, because writers of audio choose the format by it.
        with tempfile.NamedTemporaryFile(
            dir=final.parent, prefix=f".{final.stem[:40]}.", suffix=final.suffix, delete=False
        ) as file:
            temporary = Path(file.name)
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(final)
    except OSError as error:
        raise _storage_error(error, final) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    r"""Write `text` (UTF-8) to `path` atomically, creating its folder.

    What is no Unicode, as names of files may be, is written as `\udce9`; in JSON that is the same text.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically, creating its folder. Raises StorageError: the disk is full or not writable."""
    with publish_file(path) as part:
        part.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, atomically; NaN and infinity, which JSON lacks, become null."""
    layout: dict[str, Any] = {"indent": 2, "sort_keys": True, "ensure_ascii": False}
    try:
        text = json.dumps(value, allow_nan=False, **layout)
    except ValueError:
        finite = changed(value, lambda one: None if isinstance(one, float) and not math.isfinite(one) else one)
        text = json.dumps(finite, allow_nan=False, **layout)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises StorageError: the file is missing or not valid JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot read {path}: {error}. Delete the run's folder and run again") from error


def _storage_error(error: OSError, path: Path) -> StorageError:
    todo = "check the folder's permissions"
    if error.errno == errno.ENOSPC:
        todo = "free some space and run the same command again: finished work is kept"
    told = str(error.strerror or error)
    if error.filename and path.parent not in Path(str(error.filename)).parents:
        # Of the block: a file that it reads, or one that it writes elsewhere.
        told, todo = f"{told}: {error.filename}", f"check that file; {todo}"
    return StorageError(f"cannot write {path}: {told}; {todo}")


def rounded(value: Any, places: int = 6) -> Any:
    """Round every float in `value` (JSON), so that files do not differ in the last bits."""
    return changed(value, lambda one: round(one, places) + 0.0 if isinstance(one, float) else one)


def check_key(key: str, uri: str) -> None:
    """Reject an object's key that is absolute or contains `..`. Raises StorageError: it would leave the store."""
    if key.startswith("/") or ".." in key.split("/"):
        raise StorageError(f"key {key!r} leads out of the store {uri}; this is a fault, please report it")


@contextmanager
def locked(file: Path, busy: str, todo: str = "check the folder's permissions") -> Iterator[None]:
    """Keep other processes that lock `file` out of this block; the file is made, with its folder.

    Raises StorageError: another process is in such a block (`busy` says so), or the file cannot be written (`todo` says
    what to do then).
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = file.open("a")
    except OSError as error:
        raise StorageError(f"cannot write {file.parent}: {error.strerror}; {todo}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StorageError(busy) from error
        yield
