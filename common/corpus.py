"""The pretraining corpus on disk: WebDataset shards under a JSON manifest.

`manifest.json` lists every shard with its kind (`audio` or `latents`), split (`train` or `heldout`), number of clips,
bytes and SHA-256. A sample `key` of an audio shard is `key.flac` and `key.json`; of a latent shard `key.latent.npy`
(D, L), `key.tokens.npy` (S,) and `key.json`. Beside them: `vae/`, `tokenizer/`, `vocabulary.json`.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray
from pydantic import Field

from common.errors import DataError
from common.hashing import hash_file
from common.records import Record
from common.storage import read_json

Split = Literal["train", "heldout"]
SUFFIXES = ("flac", "json", "latent.npy", "tokens.npy")
MAX_MEMBER_BYTES = 64 * 2**20


class Shard(Record):
    """One shard of the manifest."""

    file: str
    kind: Literal["audio", "latents"]
    split: Split
    clips: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str


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
    """Reader of the `corpus` artifact; checks each shard's hash before its first use.

    Attributes:
        path: the artifact's folder.
        manifest: the whole of `manifest.json`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest: dict[str, Any] = read_json(self.path / "manifest.json")
        self.shards = [Shard.model_validate(row) for row in self.manifest["shards"]]

    @property
    def vae_dir(self) -> Path:
        """The autoencoder that made the latents."""
        return self.path / "vae"

    @property
    def tokenizer_dir(self) -> Path:
        """The text encoder's tokenizer."""
        return self.path / "tokenizer"

    @property
    def labels(self) -> list[str]:
        """Sorted labels; empty for a corpus without labels."""
        labels: list[str] = self.manifest["labels"]
        return labels

    def vocabulary(self) -> list[tuple[str, float]]:
        """`(piece, log probability)` of the embedded vocabulary."""
        return [(str(piece), float(logprob)) for piece, logprob in read_json(self.path / "vocabulary.json")]

    def audio(self, split: Split) -> Iterator[CorpusClip]:
        """Clips of a split in fixed order, shard by shard.

        Raises:
            DataError: the corpus was made without audio, or a shard is damaged.
        """
        for path in self._verified("audio", split):
            yield from read_audio_shard(path)

    def latents(self, split: Split) -> Iterator[CorpusLatent]:
        """Encoded clips of a split in fixed order, shard by shard.

        Raises:
            DataError: a shard is damaged.
        """
        for path in self._verified("latents", split):
            for key, parts in read_shard(path):
                facts = json.loads(parts["json"])
                latent = np.load(io.BytesIO(parts["latent.npy"]), allow_pickle=False)
                tokens = np.load(io.BytesIO(parts["tokens.npy"]), allow_pickle=False)
                yield CorpusLatent(key, latent, tokens, facts["caption"], facts["label"], facts["duration_s"])

    def _verified(self, kind: str, split: Split) -> Iterator[Path]:
        found = [shard for shard in self.shards if shard.kind == kind and shard.split == split]
        if not found:
            raise DataError(f"{self.path}: no {kind} shards of split {split}; run prepare_corpus with keep_audio: true")
        paths = [self.path / shard.file for shard in found]
        # Sizes of all at once; hashes shard by shard, as a large corpus should not be read twice before the first clip.
        for shard, path in zip(found, paths, strict=True):
            if not path.is_file() or path.stat().st_size != shard.bytes:
                raise _differs(path)
        for shard, path in zip(found, paths, strict=True):
            if hash_file(path) != shard.sha256:
                raise _differs(path)
            yield path


def _differs(path: Path) -> DataError:
    return DataError(f"shard {path} is missing or differs from its manifest; run prepare_corpus again")


def read_audio_shard(path: Path) -> Iterator[CorpusClip]:
    """Clips of one audio shard."""
    for key, parts in read_shard(path):
        facts = json.loads(parts["json"])
        samples, rate = soundfile.read(io.BytesIO(parts["flac"]), dtype="float32", always_2d=True)
        audio = np.ascontiguousarray(samples.T)
        yield CorpusClip(key, audio, int(rate), facts["caption"], facts["label"], facts["duration_s"])


def read_shard(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Samples of a tar shard as `(key, {suffix: bytes})`, streamed; nothing is written to disk.

    Raises:
        DataError: the archive is cut or broken, or a member is no regular file, of another kind, or too large.
    """
    key, parts = "", dict[str, bytes]()
    try:
        with tarfile.open(path, mode="r|") as archive:
            for member in archive:
                name, _, suffix = member.name.partition(".")
                if not member.isreg() or "/" in name or suffix not in SUFFIXES or member.size > MAX_MEMBER_BYTES:
                    raise DataError(
                        f"shard {path}: member {member.name!r:.80} is not allowed; expected small {SUFFIXES} files"
                    )
                if parts and name != key:
                    yield key, parts
                    parts = {}
                file = archive.extractfile(member)
                key, parts[suffix] = name, file.read() if file else b""
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"shard {path} is damaged ({error}); run prepare_corpus again") from error
    if parts:
        yield key, parts


def write_shard(path: Path, samples: Iterator[tuple[str, dict[str, bytes]]]) -> int:
    """Write samples to a tar with fixed times and owners: equal samples give equal bytes. Returns their number."""
    count = 0
    with tarfile.open(path, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for key, parts in samples:
            count += 1
            for suffix in sorted(parts):
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size, info.mode = len(parts[suffix]), 0o644
                archive.addfile(info, io.BytesIO(parts[suffix]))
    return count
