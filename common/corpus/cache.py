"""Local cache of corpus shards from S3, of bounded size."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import BinaryIO

from common.errors import StorageError
from common.storage import cache_root, open_store, split_uri

MAX_BYTES = 32 * 2**30
_ATTEMPTS = 3


class ShardCache:
    """LRU cache of shards, keyed by hash.

    Several processes may share it: `open` returns an open file, so deleting the copy does no harm.

    Args:
        folder: default: below the cache of the run store.
        max_bytes: total size of the copies; a larger shard is kept alone.
    """

    def __init__(self, folder: Path | None = None, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder or cache_root() / "corpus_shards"
        self._max_bytes = max_bytes

    def open(self, uri: str, sha256: str, size: int) -> BinaryIO:
        """Open the shard at `uri`; fetch it when there is no copy of `size` bytes yet.

        Raises StorageError: the shard is missing or differs from its hash.
        """
        path = self._folder / f"{sha256}.tar"
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_size != size:
                    path.unlink()
                file = path.open("rb")
                os.utime(path)
                return file
            self._make_room(size)
            store, key = split_uri(uri)
            open_store(store).download(key, path, sha256)
        raise StorageError(f"copies of {uri} in {self._folder} keep being deleted; give each machine its own cache")

    def drop(self, sha256: str) -> None:
        """Delete a damaged copy."""
        (self._folder / f"{sha256}.tar").unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        found = []
        for path in self._folder.glob("*.tar"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        total = sum(held for _, held, _ in found)
        for _, held, path in sorted(found):
            if total + size <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= held
