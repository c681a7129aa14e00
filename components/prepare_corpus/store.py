"""Finished shards in the stage's store: one object each; the facts beside it mark the shard as complete."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pydantic import Field

from common.corpus.shards import Kind, Shard, Split
from common.records.clips import Record
from common.storage import ObjectStore
from common.storage.hashing import hash_file, hash_json
from common.storage.items import ItemStore
from components.prepare_corpus.sources import Dropped

_ABANDONED_S = 86400.0
_READERS, _READ_AHEAD = 8, 64


class ShardFacts(Record):
    """Facts of a finished shard; bytes and hash are those of its file."""

    clips: int
    captions: list[str]
    labels: list[str]
    seconds: float
    durations_s: tuple[float, float] = Field(description="of the shortest and the longest clip")
    lengths: dict[int, int] | None = Field(description="latent shards: clips by latent length")
    latent_channels: int
    dropped: Dropped
    bytes: int = 0
    sha256: str = ""


class Models(NamedTuple):
    """Folder of `vae` and `tokenizer`, and the hashes of both."""

    folder: Path
    vae_hash: str
    text_hash: str


class ShardStore:
    """Shards named by a hash of their inputs and of the stage's source; safe to pass to other processes."""

    def __init__(self, items: ItemStore, code_version: str) -> None:
        self._objects: ObjectStore = items.objects()
        self._code_version = code_version
        self._scratch = items.scratch_dir(purpose="shards being written")

    def name(self, kind: Kind, key: dict[str, object]) -> str:
        """Name of the shard made from `key` (JSON values)."""
        digest = hash_json({"code": self._code_version, "kind": kind, **key})
        return f"{kind}/{digest[:2]}/{digest[:32]}"

    def facts(self, name: str) -> ShardFacts:
        """Facts of a finished shard. Raises StorageError: the shard is not finished."""
        return ShardFacts.model_validate_json(self._objects.read_bytes(f"{name}.json"))

    def all_facts(self, names: Sequence[str]) -> Iterator[ShardFacts]:
        """`facts` of many shards in order; read ahead, since each costs a round trip on S3."""
        with ThreadPoolExecutor(_READERS) as readers:
            for first in range(0, len(names), _READ_AHEAD):
                yield from readers.map(self.facts, names[first : first + _READ_AHEAD])

    def has(self, name: str) -> bool:
        """Whether a shard is finished and undamaged; on S3 only its size is compared."""
        size = self._objects.size(f"{name}.tar")
        if size is None or self._objects.size(f"{name}.json") is None:
            return False
        facts = self.facts(name)
        path = self._objects.local_path(f"{name}.tar")
        return bool(size == facts.bytes and (path is None or hash_file(path) == facts.sha256))

    def open(self, name: str) -> BinaryIO:
        """Stream of a finished shard."""
        return self._objects.open(f"{name}.tar")

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """Temporary folder for shards that are being written."""
        with tempfile.TemporaryDirectory(dir=self._scratch, ignore_cleanup_errors=True) as folder:
            yield Path(folder)

    def put(self, name: str, path: Path, facts: ShardFacts) -> None:
        """Move a complete shard into the store, then write its facts; one that another run put there meanwhile stays.

        That run's manifest may hold the hash of its own, and a GPU does not give the same bytes twice.
        """
        if self.has(name):
            return
        facts = facts.model_copy(update={"bytes": path.stat().st_size, "sha256": hash_file(path)})
        final = self._objects.local_path(f"{name}.tar")
        if final is not None and final.is_relative_to(self._scratch.parents[1]):
            final.parent.mkdir(parents=True, exist_ok=True)
            path.replace(final)
        else:
            self._objects.upload(f"{name}.tar", path)
        self._objects.write_bytes(f"{name}.json", facts.model_dump_json().encode())

    def publish(self, name: str, facts: ShardFacts, kind: Kind, split: Split, link: Path | None, number: int) -> Shard:
        """Manifest entry of a finished shard.

        Args:
            link: artifact folder to hold the shard if that costs no space (a hard link on the same file system);
                otherwise, or with None, the entry has the address in the store.
        """
        relative = f"{kind}/shard-{number:05d}.tar"
        local = self._objects.local_path(f"{name}.tar")
        linked = link is not None and local is not None and _link(local, link / relative)
        uri = relative if linked else f"{self._objects.uri}/{name}.tar"
        told = facts.model_dump(include={"clips", "bytes", "sha256", "lengths"})
        return Shard(uri=uri, kind=kind, split=split, **told)

    def remove_abandoned(self) -> None:
        """Delete what killed runs left behind, if it is at least a day old."""
        for path in self._scratch.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - _ABANDONED_S:
                    shutil.rmtree(path, ignore_errors=True)


def _link(source: Path, target: Path) -> bool:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with contextlib.suppress(OSError):
            target.parent.rmdir()
        return False
    return True
