"""The corpus clips nearest to each gold clip by CLAP, unfiltered: "Retrieval" in the paper (arXiv 2410.02056)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from common.clap.scorer import ClapScorer
from common.config.clap import RetrieveAudioPlan
from common.config.methods import RETRIEVED
from common.corpus.shards import Shard
from common.records.clips import GoldClip
from common.records.gold import GoldSet
from common.storage.hashing import hash_dir
from common.storage.items import ItemStore
from components.retrieve_audio.found import Found
from components.retrieve_audio.neighbours import Nearest, assign
from components.retrieve_audio.shards import ShardTask, embed_shards


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
    store, digest = ItemStore("retrieve_audio", code_version), hash_dir(clap)
    tasks = [ShardTask(store, corpus_dir, shard, clap, digest, plan.settings.batch_size) for shard in shards]
    embed_shards(tasks)
    queries = sorted({clip.clip_id: clip for clips in train.values() for clip in clips}.values(), key=_id)
    rows = {clip.clip_id: row for row, clip in enumerate(queries)}
    nearest = _search(queries, gold, tasks, plan, max(len(clips) for clips in train.values()))
    starts = np.cumsum([0, *(len(task.embeddings()) for task in tasks)])
    facts = cache(lambda shard: tasks[shard].facts())
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


def _search(
    queries: Sequence[GoldClip], gold: GoldSet, tasks: Sequence[ShardTask], plan: RetrieveAudioPlan, most: int
) -> Nearest:
    scorer = ClapScorer.load(tasks[0].clap, batch_size=plan.settings.batch_size)
    rate = scorer.sample_rate_hz
    nearest = Nearest(scorer.embed_audio((gold.load(clip, rate) for clip in queries), rate), plan.clips_per_gold * most)
    for task in tasks:
        nearest.add(task.embeddings())
    return nearest


def _id(clip: GoldClip) -> str:
    return clip.clip_id
