"""The pretraining corpus: WebDataset shards under a JSON manifest.

`manifest.json` lists every shard with its location (relative to the artifact, or a `file://` or `s3://` address in
the run store), kind (`audio` or `latents`), split (`train` or `heldout`), number of clips, bytes and SHA-256. A sample
`key` of an audio shard is `key.flac` and `key.json`; of a latent shard `key.latent.npy` (D, L), `key.tokens.npy` (S,)
and `key.json`. Beside the manifest: `vocabulary.json` and, with latents, `vae/` and `tokenizer/`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
import soundfile
from numpy.typing import NDArray
from pydantic import Field

from common.archives import ArchiveLimits, read_members
from common.errors import DataError, StorageError
from common.records.clips import Record
from common.storage import DamagedError, cache_root, open_store, read_json, split_uri
from common.storage.artifacts import how_to_remake

Kind = Literal["audio", "latents"]
Split = Literal["train", "heldout"]
VERSION = 2
SUFFIXES = ("flac", "json", "latent.npy", "tokens.npy")
MAX_MEMBER_BYTES = 64 * 2**20
MAX_CACHE_BYTES = 32 * 2**30
"""Total size of the copies on this machine; a larger shard is kept alone."""
_ATTEMPTS = 3
_AGAIN = "run prepare_corpus again (`make run-pipeline` with the same settings makes what is missing)"
_LIMITS = ArchiveLimits(members=10_000_000, member_bytes=MAX_MEMBER_BYTES, depth=1)
_MEMBER_SUFFIXES = tuple(f".{suffix}" for suffix in SUFFIXES)


class Shard(Record):
    """One shard of the manifest."""

    uri: str = Field(description="s3://, file:// or a path relative to the artifact")
    kind: Kind
    split: Split
    clips: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str
    lengths: dict[int, int] | None = Field(
        default=None,
        description="latent shards: clips by latent length, so that batches can be planned without reading",
    )


def _cache() -> Path:
    return cache_root() / "corpus_shards"


def open_cached(uri: str, sha256: str, size: int) -> BinaryIO:
    """Open this machine's copy of the shard at `uri`; fetch it when there is none of `size` bytes yet.

    Copies are keyed by hash; those unused for longest make room. Several processes may share them: an open file
    outlives its name, so deleting a copy does no harm.

    Raises StorageError: the shard is missing or differs from its hash.
    """
    path = _cache() / f"{sha256}.tar"
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size != size:
                path.unlink()
            file = path.open("rb")
            os.utime(path)
            return file
        _make_room(size)
        store, key = split_uri(uri)
        open_store(store).download(key, path, sha256)
    raise StorageError(f"copies of {uri} in {_cache()} keep being deleted; give each machine its own cache")


def _make_room(size: int) -> None:
    found = []
    for path in _cache().glob("*.tar"):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    total = sum(held for _, held, _ in found)
    for _, held, path in sorted(found):
        if total + size <= MAX_CACHE_BYTES:
            return
        path.unlink(missing_ok=True)
        total -= held


class CorpusClip(NamedTuple):
    """A clip with its caption; `audio` is `(C, T)` float32."""

    key: str
    audio: NDArray[np.float32]
    sample_rate_hz: int
    caption: str
    label: str | None
    duration_s: float


class CorpusLatent(NamedTuple):
    """An encoded clip; `latent` is `(D, L)` float32, `tokens` `(S,)` int64 without padding."""

    key: str
    latent: NDArray[np.float32]
    tokens: NDArray[np.int64]
    caption: str
    label: str | None
    duration_s: float


class Corpus:
    """Reader of the `corpus` artifact; verifies each shard's hash before its first use.

    Shards, here in the manifest's order, are read through a local cache of bounded size where they lie on S3.

    Raises DataError: the manifest is of another version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest: dict[str, Any] = read_json(self.path / "manifest.json")
        if (found := self.manifest.get("version", 1)) != VERSION:
            raise DataError(
                f"{self.path}: its manifest is of version {found}, this code reads {VERSION}; run prepare_corpus again "
                "with this code"
            )
        self.shards = [Shard.model_validate(row) for row in self.manifest["shards"]]
        self._checked: set[str] = set()

    @property
    def vae_dir(self) -> Path:
        """Folder of the autoencoder that encoded the latents."""
        return self.path / "vae"

    @property
    def tokenizer_dir(self) -> Path:
        """Folder of the text encoder's tokenizer."""
        return self.path / "tokenizer"

    @property
    def labels(self) -> list[str]:
        """Sorted labels; empty for a corpus without labels."""
        return list(self.manifest["labels"])

    def vocabulary(self) -> list[tuple[str, float]]:
        """Embedded vocabulary as `(piece, log probability)`."""
        return [(str(piece), float(logprob)) for piece, logprob in read_json(self.path / "vocabulary.json")]

    def shards_of(self, kind: Kind, split: Split) -> list[Shard]:
        """Shards of a kind and split, in fixed order."""
        return [shard for shard in self.shards if shard.kind == kind and shard.split == split]

    def audio(self, split: Split) -> Iterator[CorpusClip]:
        """Yield the clips of a split in fixed order, shard by shard.

        Raises DataError: the corpus was made without audio, or a shard is damaged.
        """
        for shard in self._present("audio", split):
            with self.open_shard(shard) as file:
                yield from read_audio_shard(file, shard.uri)

    def latents(self, split: Split) -> Iterator[CorpusLatent]:
        """Yield the encoded clips of a split in fixed order, shard by shard. Raises DataError: a shard is damaged."""
        for shard in self._present("latents", split):
            yield from self.read_latent_shard(shard)

    def read_latent_shard(self, shard: Shard) -> Iterator[CorpusLatent]:
        """Yield the encoded clips of one shard. Raises DataError: the shard is damaged."""
        with self.open_shard(shard) as file:
            for key, parts in read_shard(file, shard.uri):
                facts = json.loads(parts["json"])
                latent = np.load(io.BytesIO(parts["latent.npy"]), allow_pickle=False).astype(np.float32, copy=False)
                tokens = np.load(io.BytesIO(parts["tokens.npy"]), allow_pickle=False)
                yield CorpusLatent(key, latent, tokens, facts["caption"], facts["label"], facts["duration_s"])

    def open_shard(self, shard: Shard) -> BinaryIO:
        """Open a shard, verified against the hash in the manifest.

        Raises DataError: the shard is missing or differs.
        """
        file = self._open(shard)
        if shard.uri not in self._checked:
            digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # a file on disk
            file.seek(0)
            if digest != shard.sha256:
                file.close()
                if not shard.uri.startswith("s3://"):
                    raise self._differs(shard)
                # The copy is damaged; one that is fetched has the hash.
                (_cache() / f"{shard.sha256}.tar").unlink(missing_ok=True)
                file = self._open(shard)
            self._checked.add(shard.uri)
        return file

    def _open(self, shard: Shard) -> BinaryIO:
        if not shard.uri.startswith("s3://"):
            path = self._local(shard)
            if not path.is_file() or path.stat().st_size != shard.bytes:
                raise self._differs(shard)
            return path.open("rb")
        try:
            return open_cached(shard.uri, shard.sha256, shard.bytes)
        except StorageError as error:
            store, key = split_uri(shard.uri)
            if isinstance(error, DamagedError) or open_store(store).size(key) is None:
                raise self._differs(shard) from error
            raise

    def _present(self, kind: Kind, split: Split) -> list[Shard]:
        """Shards of a kind and split; sizes of all local ones are checked at once, hashes one by one on opening."""
        found = self.shards_of(kind, split)
        if not found:
            raise DataError(f"{self.path}: no {kind} shards of split {split}; run prepare_corpus with keep_audio: true")
        for shard in found:
            if not shard.uri.startswith("s3://"):
                self._open(shard).close()
        return found

    def _local(self, shard: Shard) -> Path:
        if shard.uri.startswith("file://"):
            return Path(unquote(urlsplit(shard.uri).path))
        return self.path / shard.uri

    def _differs(self, shard: Shard) -> DataError:
        where = shard.uri if shard.uri.startswith("s3://") else self._local(shard)
        return DataError(
            f"shard {where} is missing or differs from its manifest {self.path}/manifest.json; delete it if it is "
            f"there, then: {how_to_remake(self.path)} (shards that are whole are kept)"
        )


def recording_of(key: str) -> str:
    """Key of the first clip of the same audio: `000000012` for its second caption `000000012-1`."""
    return re.sub(r"(?<=\d)-\d+$", "", key)


def read_audio_shard(source: Path | BinaryIO, name: str = "") -> Iterator[CorpusClip]:
    """Yield the clips of one audio shard. Raises DataError: as in `read_shard`."""
    for key, parts in read_shard(source, name):
        facts = json.loads(parts["json"])
        read, rate = soundfile.read(io.BytesIO(parts["flac"]), dtype="float32", always_2d=True)
        audio = np.ascontiguousarray(read.T)
        yield CorpusClip(key, audio, int(rate), facts["caption"], facts["label"], facts["duration_s"])


def read_shard(source: Path | BinaryIO, name: str = "") -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the samples of a tar shard as `(key, {suffix: bytes})`, streamed; nothing is written to disk.

    Raises DataError, with the `name` or path: the archive is truncated or broken, or a member is not a regular file, of
    another kind, or too large.
    """
    key, parts = "", dict[str, bytes]()
    try:
        for member, file in read_members(source, _MEMBER_SUFFIXES, _LIMITS):
            stem, _, suffix = member.partition(".")
            if suffix not in SUFFIXES:
                raise DataError(f"member {member!r:.80} is not one of {', '.join(SUFFIXES)}")
            if parts and stem != key:
                yield key, parts
                parts = {}
            key, parts[suffix] = stem, file.read()
    except DataError as error:
        raise DataError(f"shard {name or source} is damaged or no shard: {error}; {_AGAIN}") from error
    if parts:
        yield key, parts


class ShardWriter:
    """Context manager that writes a shard sample by sample."""

    def __init__(self, path: Path) -> None:
        self._archive = tarfile.open(path, mode="w", format=tarfile.USTAR_FORMAT)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self._archive.close()

    def add(self, key: str, parts: dict[str, bytes]) -> None:
        """Append one sample."""
        for suffix in sorted(parts):
            info = tarfile.TarInfo(f"{key}.{suffix}")
            info.size, info.mode = len(parts[suffix]), 0o644
            self._archive.addfile(info, io.BytesIO(parts[suffix]))
