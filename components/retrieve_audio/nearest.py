"""The corpus clips nearest to each gold clip by CLAP, unfiltered: "Retrieval" in the paper (arXiv 2410.02056)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.audio.signal import resample, to_mono
from common.clap.scorer import ClapScorer
from common.config.clap import RetrieveAudioPlan
from common.config.recipes import RETRIEVED
from common.corpus.shards import Corpus, Shard, read_audio_shard
from common.records.clips import GoldClip
from common.records.gold import GoldSet
from common.runtime.work import obtain_all
from common.storage import read_json, write_json
from common.storage.artifacts import artifact_hash
from common.storage.items import ItemStore
from components.retrieve_audio.found import Found
from components.retrieve_audio.neighbours import Nearest, assign


@dataclass(frozen=True)
class EmbeddedShard:
    """Embeddings (clips, D), rows of norm 1, and key, caption and duration of one shard's clips."""

    store: ItemStore
    corpus_dir: Path
    shard: Shard
    clap: Path
    clap_hash: str
    batch_size: int

    @property
    def key(self) -> dict[str, object]:
        """What determines the embeddings."""
        return {"clap": self.clap_hash, "shard": self.shard.sha256}

    def make(self, folder: Path) -> None:
        """Write `embeddings.npy` and `clips.json`."""
        scorer = ClapScorer.load(self.clap, batch_size=self.batch_size)
        facts: list[dict[str, Any]] = []

        def waveforms() -> Iterator[NDArray[np.float32]]:
            with Corpus(self.corpus_dir).open_shard(self.shard) as file:
                for clip in read_audio_shard(file):
                    seconds = clip.audio.shape[-1] / clip.sample_rate_hz
                    facts.append({"key": clip.key, "caption": clip.caption, "duration_s": seconds})
                    yield resample(to_mono(clip.audio), clip.sample_rate_hz, scorer.sample_rate_hz)

        np.save(folder / "embeddings.npy", scorer.embed_audio(waveforms(), scorer.sample_rate_hz))
        write_json(folder / "clips.json", facts)


def find_nearest(
    plan: RetrieveAudioPlan,
    corpus_dir: Path,
    shards: Sequence[Shard],
    gold: GoldSet,
    train: Mapping[int, Sequence[GoldClip]],
    clap: Path,
    code_version: str,
) -> list[Found]:
    """Find the clips nearest to the training clips of every replicate.

    Args:
        shards: audio shards of the corpus.
        train: training clips by replicate.
        clap: folder of the CLAP.
    """
    store, digest, size = (
        ItemStore("retrieve_audio", code_version, scope=plan.scope),
        artifact_hash(clap),
        plan.settings.batch_size,
    )
    made = obtain_all(
        {place: EmbeddedShard(store, corpus_dir, shard, clap, digest, size) for place, shard in enumerate(shards)}
    )
    queries = sorted({clip.clip_id: clip for clips in train.values() for clip in clips}.values(), key=_id)
    rows = {clip.clip_id: row for row, clip in enumerate(queries)}
    scorer = ClapScorer.load(clap, batch_size=size)
    rate = scorer.sample_rate_hz
    most = plan.clips_per_gold * max(len(clips) for clips in train.values())
    nearest = Nearest(scorer.embed_audio((gold.load(clip, rate) for clip in queries), rate), most)
    starts = []
    for item in made.values():
        starts.append(nearest.seen)
        nearest.add(np.load(item / "embeddings.npy", allow_pickle=False))
    facts = cache(lambda shard: read_json(made[shard] / "clips.json"))
    found = []
    for seed, clips in train.items():
        own = [rows[clip.clip_id] for clip in clips]
        for match in assign(nearest.cosines[own], nearest.places[own], plan.clips_per_gold):
            shard = int(np.searchsorted(starts, match.place, side="right")) - 1
            told = facts(shard)[match.place - starts[shard]]
            source = clips[match.query]
            found.append(
                Found(RETRIEVED, seed, source, match.rank, match.place, **told, cosine=match.cosine, clap_hash=digest)
            )
    return found


def _id(clip: GoldClip) -> str:
    return clip.clip_id
