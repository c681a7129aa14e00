"""The idea of the stage: take the corpus clips nearest to each gold clip by CLAP and give them the gold clip's labels.

Nothing is filtered, as in the paper's retrieval row (arXiv 2410.02056, Table 1). Read next: shards.py (CLAP embeddings
of the corpus), neighbours.py (nearest clips, and which gold clip gets which), run.py (nothing to do without the
method).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from common.audio.signal import resample, to_mono
from common.clap.scorer import ClapScorer
from common.config.clap import RetrieveAudioPlan
from common.config.methods import RETRIEVED
from common.corpus.shards import Corpus
from common.errors import DataError
from common.records.audio_folder import write_audio_folder
from common.records.clips import GoldClip, SyntheticClip
from common.records.gold import GoldSet
from common.storage.hashing import hash_dir
from common.storage.items import ItemStore
from components.retrieve_audio.neighbours import Nearest, assign
from components.retrieve_audio.shards import ShardTask, embed_shards


def retrieve(
    plan: RetrieveAudioPlan, corpus_dir: Path, gold_dir: Path, clap: Path, target: Path, code_version: str
) -> dict[str, float]:
    """Write the nearest corpus clips of every replicate's training clips to `target`.

    Returns:
        `clips` retrieved, `corpus_clips` searched, and `mean_cosine` between retrieved and gold clips.

    Raises:
        DataError: the corpus has no audio.
    """
    gold = GoldSet(gold_dir)
    tasks = _tasks(plan, corpus_dir, clap, code_version)
    embed_shards(tasks)
    train = {seed: gold.train(seed) for seed in plan.seeds}
    queries = sorted({clip.clip_id: clip for clips in train.values() for clip in clips}.values(), key=_id)
    rows = {clip.clip_id: row for row, clip in enumerate(queries)}
    nearest = _search(queries, gold, tasks, plan, max(len(clips) for clips in train.values()))
    starts = np.cumsum([0, *(len(task.embeddings()) for task in tasks)])
    rate = queries[0].sample_rate_hz
    facts = cache(lambda shard: tasks[shard].facts())
    records: dict[int, list[SyntheticClip]] = {}
    for seed, clips in train.items():
        own = [rows[clip.clip_id] for clip in clips]
        for match in assign(nearest.cosines[own], nearest.places[own], plan.clips_per_gold):
            shard = int(np.searchsorted(starts, match.place, side="right")) - 1
            fact = facts(shard)[match.place - starts[shard]]
            record = _record(clips[match.query], seed, match.rank, match.cosine, fact, tasks[shard].clap_hash, rate)
            records.setdefault(match.place, []).append(record)
    everything = sorted((record for found in records.values() for record in found), key=_id)
    write_audio_folder(target, everything, _audio(records, tasks, starts, rate), rate)
    cosines = [record.nearest_similarity or 0.0 for record in everything]
    return {"clips": len(everything), "corpus_clips": nearest.seen, "mean_cosine": float(np.mean(cosines))}


def _tasks(plan: RetrieveAudioPlan, corpus_dir: Path, clap: Path, code_version: str) -> list[ShardTask]:
    shards = Corpus(corpus_dir).shards_of("audio", "train")
    if not shards:
        raise DataError(
            f"{corpus_dir} has no audio to retrieve clips from; leave the method `retrieval` out, or run "
            "prepare_corpus on a corpus with keep_audio: true"
        )
    store, digest = ItemStore("retrieve_audio", code_version), hash_dir(clap)
    return [ShardTask(store, corpus_dir, shard, clap, digest, plan.settings.batch_size) for shard in shards]


def _search(
    queries: Sequence[GoldClip], gold: GoldSet, tasks: Sequence[ShardTask], plan: RetrieveAudioPlan, most: int
) -> Nearest:
    scorer = ClapScorer.load(tasks[0].clap, batch_size=plan.settings.batch_size)
    rate = scorer.sample_rate_hz
    nearest = Nearest(scorer.embed_audio((gold.load(clip, rate) for clip in queries), rate), plan.clips_per_gold * most)
    for task in tasks:
        nearest.add(task.embeddings())
    return nearest


def _record(
    source: GoldClip, seed: int, index: int, cosine: float, facts: dict[str, object], clap_hash: str, rate: int
) -> SyntheticClip:
    clip_id = f"{RETRIEVED.name}.s{seed}.{source.clip_id}.{index}"
    return SyntheticClip.model_validate(
        {
            "file_name": f"{clip_id}.flac",
            "clip_id": clip_id,
            "label": source.label,
            "label_id": source.label_id,
            "further_labels": source.further_labels,
            "caption": facts["caption"],
            "recipe": RETRIEVED.name,
            "seed": seed,
            "source_clip_id": source.clip_id,
            "index": index,
            "round": 0,
            "duration_s": facts["duration_s"],
            "sample_rate_hz": rate,
            "writer": "corpus",
            "model_hash": clap_hash,
            "sampling_seed": 0,
            "sampler": {"corpus_clip": facts["key"]},
            "gain_db": 0.0,
            "nearest_clip_id": source.clip_id,
            "nearest_similarity": cosine,
        }
    )


def _audio(
    records: dict[int, list[SyntheticClip]], tasks: Sequence[ShardTask], starts: np.ndarray, rate: int
) -> Iterator[tuple[str, np.ndarray]]:
    for task, start, stop in zip(tasks, starts, starts[1:], strict=False):
        if not any(start <= place < stop for place in records):
            continue
        for place, clip in enumerate(task.clips(), start=int(start)):
            for record in records.get(place, ()):
                yield record.clip_id, resample(to_mono(clip.audio), clip.sample_rate_hz, rate)


def _id(clip: GoldClip | SyntheticClip) -> str:
    return clip.clip_id
