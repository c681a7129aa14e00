"""CLAP embeddings of the corpus; each shard is one item of the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.audio.signal import resample, to_mono
from common.clap.scorer import ClapScorer
from common.corpus.shards import Corpus, CorpusClip, Shard, read_audio_shard
from common.runtime.devices import model_workers
from common.runtime.parallel import run_items
from common.storage import read_json, write_json
from common.storage.items import ItemStore


@dataclass(frozen=True)
class ShardTask:
    """Item with embeddings and facts of one shard's clips."""

    store: ItemStore
    corpus_dir: Path
    shard: Shard
    clap: Path
    clap_hash: str
    batch_size: int

    @property
    def _key(self) -> dict[str, Any]:
        return {"clap": self.clap_hash, "shard": self.shard.sha256}

    def __call__(self) -> None:
        """Make the item if the store lacks it."""
        self.store.get_or_make(self._make, **self._key)

    def embeddings(self) -> NDArray[np.float32]:
        """Read the embeddings (clips, D), rows of norm 1."""
        found: NDArray[np.float32] = np.load(self.store.path(**self._key) / "embeddings.npy", allow_pickle=False)
        return found

    def facts(self) -> list[dict[str, Any]]:
        """Read key, caption and duration of each clip."""
        found: list[dict[str, Any]] = read_json(self.store.path(**self._key) / "clips.json")
        return found

    def clips(self) -> Iterator[CorpusClip]:
        """Read the clips with audio, in the order of the embeddings."""
        with Corpus(self.corpus_dir).open_shard(self.shard) as file:
            yield from read_audio_shard(file)

    def _make(self, folder: Path) -> None:
        scorer = ClapScorer.load(self.clap, batch_size=self.batch_size)
        facts: list[dict[str, Any]] = []

        def waveforms() -> Iterator[NDArray[np.float32]]:
            for clip in self.clips():
                seconds = clip.audio.shape[-1] / clip.sample_rate_hz
                facts.append({"key": clip.key, "caption": clip.caption, "duration_s": seconds})
                yield resample(to_mono(clip.audio), clip.sample_rate_hz, scorer.sample_rate_hz)

        np.save(folder / "embeddings.npy", scorer.embed_audio(waveforms(), scorer.sample_rate_hz))
        write_json(folder / "clips.json", facts)


def embed_shards(tasks: Sequence[ShardTask]) -> None:
    """Make all missing items, in parallel on CPUs or one by one on a GPU.

    Raises:
        SynthioError: a task failed.
    """
    for _, result in run_items(_perform, tasks, model_workers()):
        if isinstance(result, BaseException):
            raise result


def _perform(task: ShardTask) -> None:
    task()
