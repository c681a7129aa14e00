"""Checkpoints in an object store: data first, the marker with the hashes last, the newest two kept."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import StorageError
from common.log import event, get_logger
from common.storage.hashing import DamagedError, hash_file

if TYPE_CHECKING:
    from common.storage import ObjectStore

log = get_logger("checkpoints")

DONE = "DONE.json"


class Checkpoints:
    """Checkpoints `step-N/` of one item in training, in a store of their own.

    A checkpoint is valid when its `DONE.json` exists, which is written last and holds size and SHA-256 of every file.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @property
    def uri(self) -> str:
        """URI of the store."""
        return self._store.uri

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Store the files that `write(folder)` puts into an empty folder as the checkpoint of `step`.

        Afterwards, remove older checkpoints beyond the newest two, and all checkpoints of later steps.

        Raises StorageError: the store cannot be written.
        """
        self._remove(step)
        own = self._store.child(f"step-{step}")
        # On a file system the folder is the final one, so that nothing is written twice.
        final = own.local_path("")
        with contextlib.ExitStack() as stack:
            folder = final or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="checkpoint-")))
            folder.mkdir(parents=True, exist_ok=True)
            try:
                write(folder)
            except OSError as error:
                raise StorageError(
                    f"cannot write the checkpoint of step {step} to {folder}: {error}; free some space and run the "
                    "same command again: it goes on from the checkpoint before"
                ) from error
            files = {}
            for path in sorted(folder.iterdir()):
                files[path.name] = {"size": path.stat().st_size, "sha256": hash_file(path)}
                if final is None:
                    own.upload(path.name, path)
        own.write_bytes(DONE, json.dumps({"step": step, "files": files}, indent=2).encode())
        found = self._found()
        whole = sorted(number for number in found if number <= step and DONE in found[number])
        for number in found.keys() - whole[-2:]:
            self._remove(number)

    @contextlib.contextmanager
    def latest(self) -> Iterator[tuple[int, Path] | None]:
        """Yield the newest valid checkpoint as `(step, folder)`, or None; damaged newer ones are logged.

        The folder exists inside the block only.

        Raises StorageError: the store cannot be read, or the disk is full. An earlier checkpoint does not stand in, as
        its training would overwrite the newest.
        """
        for step, names in sorted(self._found().items(), reverse=True):
            with tempfile.TemporaryDirectory(prefix="checkpoint-") as temporary:
                try:
                    folder = self._verified(f"step-{step}", names, Path(temporary))
                except DamagedError as error:
                    event(log, "checkpoint_skipped", step=step, uri=self.uri, reason=error)
                    continue
                yield step, folder
                return
        yield None

    def clear(self) -> None:
        """Remove all checkpoints, once the work is finished."""
        for step in self._found():
            self._remove(step)

    def _found(self) -> dict[int, list[str]]:
        """Names of files by step, of complete and incomplete checkpoints."""
        found: dict[int, list[str]] = {}
        for key in self._store.list():
            if match := re.fullmatch(r"step-(\d+)/(.+)", key):
                found.setdefault(int(match[1]), []).append(match[2])
        return found

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

    def _remove(self, step: int) -> None:
        own = self._store.child(f"step-{step}")
        # The marker first, so that a half-removed checkpoint does not look complete.
        for name in sorted(own.list(), key=lambda name: name != DONE):
            own.delete(name)
        if (folder := own.local_path("")) is not None:
            shutil.rmtree(folder, ignore_errors=True)
