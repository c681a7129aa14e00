"""Checkpoints in an object store: data first, the marker with the hashes last, the newest two kept."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from common.errors import StorageError
from common.log import event, get_logger
from common.storage.hashing import DamagedError, hash_file

if TYPE_CHECKING:
    from common.storage import ObjectStore

log = get_logger("checkpoints")

DONE = "DONE.json"
_WRITING_S = 60.0
"""A checkpoint without a marker of which nothing was written for so long is left over from a killed run."""


class Checkpoints:
    """Checkpoints `step-N-W/` of one item in training, in a store of their own; W is a random name of the writer.

    A checkpoint is valid when its `DONE.json` exists, which is written last and holds size and SHA-256 of every file.

    Two runs may train the same item at once. Each writes folders of its own, and removes of the other's only what
    neither needs any more: checkpoints of earlier steps than the newest two of both.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store, self._writer = store, uuid4().hex[:8]
        self._damaged: set[str] = set()
        """Names of checkpoints that `latest` found damaged."""

    @property
    def uri(self) -> str:
        """URI of the store."""
        return self._store.uri

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Store the files that `write(folder)` puts into an empty folder as the checkpoint of `step`.

        Afterwards, remove all but this one and the newest two, and what others left unfinished before this step.

        Raises StorageError: the store cannot be written; what it held before is still there.
        """
        name = f"step-{step}-{self._writer}"
        self._remove(name)
        own = self._store.child(name)
        # On a file system the folder is the final one, so that nothing is written twice.
        final = own.local_path("")
        with contextlib.ExitStack() as stack:
            folder = final or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="checkpoint-")))
            try:
                folder.mkdir(parents=True, exist_ok=True)
                write(folder)
                files = {
                    path.name: {"size": path.stat().st_size, "sha256": hash_file(path)}
                    for path in sorted(folder.iterdir())
                }
            except OSError as error:
                raise StorageError(
                    f"cannot write the checkpoint of step {step} to {folder}: {error}; free some space and run the "
                    "same command again: it goes on from the checkpoint before"
                ) from error
            if final is None:
                for file in files:
                    own.upload(file, folder / file)
        own.write_bytes(DONE, json.dumps({"step": step, "files": files}, indent=2).encode())
        self._damaged.discard(name)
        self._tidy(step, name)

    def _tidy(self, step: int, name: str) -> None:
        found = self._found()
        whole = [each for each in found if DONE in found[each] and each not in self._damaged]
        for each in found.keys() - {name, *whole[:2]}:
            # One without a marker, not of an earlier step, may be one that another run is writing.
            if DONE in found[each] or (_step(each) < step and not self._is_written(each)):
                self._remove(each)

    def _is_written(self, name: str) -> bool:
        """Whether another run is writing this checkpoint to a folder, from under which it must not be removed.

        On S3 a run does not notice: what it goes on to write is incomplete, and never taken.
        """
        folder = self._store.child(name).local_path("")
        if folder is None or name.endswith(self._writer):
            return False
        with contextlib.suppress(FileNotFoundError):
            last = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
            return time.time() - last < _WRITING_S
        return False

    @contextlib.contextmanager
    def latest(self) -> Iterator[tuple[int, Path] | None]:
        """Yield the newest valid checkpoint as `(step, folder)`, or None; damaged newer ones are logged.

        The folder exists inside the block only.

        Raises StorageError: the store cannot be read, or the disk is full. An earlier checkpoint does not stand in, as
        the work between them would be done again.
        """
        with tempfile.TemporaryDirectory(prefix="checkpoint-") as temporary:
            yield self._newest(Path(temporary))

    def _newest(self, temporary: Path) -> tuple[int, Path] | None:
        for name, names in self._found().items():
            folder = temporary / name
            folder.mkdir(exist_ok=True)
            try:
                return _step(name), self._verified(name, names, folder)
            except StorageError as error:
                if DONE in names and self._store.size(f"{name}/{DONE}") is None:
                    # Another run removed it meanwhile: it has saved newer ones, or finished the item.
                    if (newer := self._newest(temporary)) is None:
                        raise
                    return newer
                if not isinstance(error, DamagedError):
                    raise
                event(log, "checkpoint_skipped", step=_step(name), uri=self.uri, reason=error)
                self._damaged.add(name)
                shutil.rmtree(folder)
        return None

    def clear(self) -> None:
        """Remove all checkpoints, once the work is finished."""
        for name, names in self._found().items():
            if DONE in names or not self._is_written(name):
                self._remove(name)

    def _found(self) -> dict[str, list[str]]:
        """Names of files by checkpoint, complete or not; the newest first."""
        found: dict[str, list[str]] = {}
        for key in self._store.list():
            if match := re.fullmatch(r"(step-\d+-\w+)/(.+)", key):
                found.setdefault(match[1], []).append(match[2])
        return {name: found[name] for name in sorted(found, key=_step, reverse=True)}

    def _verified(self, name: str, names: list[str], temporary: Path) -> Path:
        if DONE not in names:
            raise DamagedError(f"{name} has no {DONE}: saving it was cut short")
        try:
            files: dict[str, dict[str, Any]] = json.loads(self._store.read_bytes(f"{name}/{DONE}"))["files"]
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"{name}/{DONE} is damaged: {error}") from error
        folder = temporary
        for file, expected in files.items():
            key = f"{name}/{file}"
            if self._store.size(key) != expected["size"]:
                raise DamagedError(f"{key} has {self._store.size(key)} bytes, expected {expected['size']}")
            path = self._store.local_path(key)
            if path is None:
                self._store.download(key, temporary / file, sha256=expected["sha256"])
            elif hash_file(path) != expected["sha256"]:
                raise DamagedError(f"{key} does not have the SHA-256 of its {DONE}")
            else:
                folder = path.parent
        return folder

    def _remove(self, name: str) -> None:
        own = self._store.child(name)
        # The marker first, so that a half-removed checkpoint does not look complete.
        for file in sorted(own.list(), key=lambda file: file != DONE):
            own.delete(file)
        if (folder := own.local_path("")) is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _step(name: str) -> int:
    return int(name.split("-")[1])
