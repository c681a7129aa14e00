"""Checkpoints in an object store: data first, the marker with the hashes last, the newest two kept."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import StorageError
from common.log import event, get_logger
from common.storage.hashing import hash_file

if TYPE_CHECKING:
    from common.storage import ObjectStore

log = get_logger("checkpoints")

DONE = "DONE.json"


class Checkpoints:
    """Checkpoints `step-N/` of one item in training.

    A checkpoint is valid when its `DONE.json` exists, which is written last and holds size and SHA-256
    of every file.

    Args:
        store: `file://` or `s3://`; holds nothing but these checkpoints.
    """

    def __init__(self, store: ObjectStore, keep: int = 2) -> None:
        self._store, self._keep = store, keep

    @property
    def uri(self) -> str:
        """URI of the store."""
        return self._store.uri

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Store the files that `write(folder)` puts into an empty folder as the checkpoint of `step`.

        Afterwards, remove older checkpoints beyond the newest `keep`, and all checkpoints of later steps.

        Raises StorageError: the store cannot be written.
        """
        name = f"step-{step}"
        self._remove(name, self._found().get(step, []))
        with self._folder(name) as (folder, is_final):
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
                if not is_final:
                    self._store.upload(f"{name}/{path.name}", path)
        self._store.write_bytes(f"{name}/{DONE}", json.dumps({"step": step, "files": files}, indent=2).encode())
        self._tidy(step)

    @contextmanager
    def latest(self) -> Iterator[tuple[int, Path] | None]:
        """Yield the newest valid checkpoint as `(step, folder)`, or None; damaged newer ones are logged.

        The folder exists inside the block only.
        """
        for step, keys in sorted(self._found().items(), reverse=True):
            with tempfile.TemporaryDirectory(prefix="checkpoint-") as temporary:
                try:
                    folder = self._verified(f"step-{step}", keys, Path(temporary))
                except StorageError as error:
                    event(log, "checkpoint_skipped", step=step, uri=self.uri, reason=error)
                    continue
                yield step, folder
                return
        yield None

    def clear(self) -> None:
        """Remove all checkpoints, once the work is finished."""
        for step, keys in self._found().items():
            self._remove(f"step-{step}", keys)

    def _found(self) -> dict[int, list[str]]:
        """Keys by step, of complete and incomplete checkpoints."""
        found: dict[int, list[str]] = {}
        for key in self._store.list():
            name, _, _ = key.partition("/")
            if name.startswith("step-") and name.removeprefix("step-").isdigit():
                found.setdefault(int(name.removeprefix("step-")), []).append(key)
        return found

    def _verified(self, name: str, keys: list[str], temporary: Path) -> Path:
        if f"{name}/{DONE}" not in keys:
            raise StorageError(f"{name} has no {DONE}: saving it was cut short")
        try:
            files: dict[str, dict[str, Any]] = json.loads(self._store.read_bytes(f"{name}/{DONE}"))["files"]
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{name}/{DONE} is damaged: {error}") from error
        folder = temporary
        for file, expected in files.items():
            key = f"{name}/{file}"
            if self._store.size(key) != expected["size"]:
                raise StorageError(f"{key} has {self._store.size(key)} bytes, expected {expected['size']}")
            path = self._store.local_path(key)
            if path is None:
                self._store.download(key, temporary / file, sha256=expected["sha256"])
            elif hash_file(path) != expected["sha256"]:
                raise StorageError(f"{key} does not have the SHA-256 of its {DONE}")
            else:
                folder = path.parent
        return folder

    @contextmanager
    def _folder(self, name: str) -> Iterator[tuple[Path, bool]]:
        """Yield an empty folder, and whether it is the final one; on a file system this avoids writing twice."""
        marker = self._store.local_path(f"{name}/{DONE}")
        if marker is None:
            with tempfile.TemporaryDirectory(prefix="checkpoint-") as temporary:
                yield Path(temporary), False
            return
        shutil.rmtree(marker.parent, ignore_errors=True)
        marker.parent.mkdir(parents=True)
        yield marker.parent, True

    def _tidy(self, step: int) -> None:
        found = self._found()
        whole = [n for n, keys in found.items() if n <= step and f"step-{n}/{DONE}" in keys]
        for n, keys in found.items():
            if n not in sorted(whole)[-self._keep :]:
                self._remove(f"step-{n}", keys)

    def _remove(self, name: str, keys: list[str]) -> None:
        # Delete the marker first, so that a half-removed checkpoint does not look complete.
        for key in sorted(keys, key=lambda key: not key.endswith(f"/{DONE}")):
            self._store.delete(key)
        marker = self._store.local_path(f"{name}/{DONE}")
        if marker is not None:
            shutil.rmtree(marker.parent, ignore_errors=True)
