"""The corpus clips nearest to each gold clip by CLAP, unfiltered: "Retrieval" in the paper (arXiv 2410.02056).

The corpus may be too large for memory: its embeddings are seen shard by shard.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.audio.signal import resample, to_mono
from common.clap.scorer import ClapScorer
from common.config.clap import RetrieveAudioPlan
from common.config.recipes import RETRIEVED
from common.corpus.shards import Corpus, Shard, read_audio_shard, recording_of
from common.records.clips import GoldClip
from common.records.gold import GoldSet
from common.runtime.work import Task, obtain_all
from common.storage import read_json, write_json
from common.storage.artifacts import artifact_hash
from common.storage.items import ItemStore
from components.retrieve_audio.found import Found, corpus_clip

Floats = NDArray[np.float32]


def _embed_shard(corpus_dir: Path, shard: Shard, clap: Path, batch_size: int, folder: Path) -> None:
    """Write `embeddings.npy` (recordings, D), rows of norm 1, and facts about each one's first clip: `clips.json`."""
    scorer = ClapScorer.load(clap, batch_size=batch_size)
    facts: list[dict[str, Any]] = []

    def waveforms() -> Iterator[Floats]:
        with Corpus(corpus_dir).open_shard(shard) as file:
            for _, alike in groupby(enumerate(read_audio_shard(file)), lambda row: recording_of(row[1].key)):
                place, clip = next(alike)
                seconds = clip.audio.shape[-1] / clip.sample_rate_hz
                facts.append({"place": place, "key": clip.key, "caption": clip.caption, "duration_s": seconds})
                yield resample(to_mono(clip.audio), clip.sample_rate_hz, scorer.sample_rate_hz)

    np.save(folder / "embeddings.npy", scorer.embed_audio(waveforms(), scorer.sample_rate_hz))
    write_json(folder / "clips.json", facts)


class Match(NamedTuple):
    """Assignment of corpus clip `place` to gold clip `query` as neighbour number `rank`; 0 = nearest."""

    query: int
    place: int
    rank: int
    cosine: float


def nearest(queries: Floats, shards: Iterable[Floats], keep: int) -> tuple[Floats, NDArray[np.int64]]:
    """The `keep` corpus clips nearest to each query; memory grows with queries times `keep`, not with the corpus.

    Args:
        queries: (Q, D) float32, rows of norm 1.
        shards: embeddings of the corpus's clips in order, (B, D) each, rows of norm 1.

    Returns cosines (Q, at most `keep`), descending along each row, ties in the order of the corpus; and the indices of
    these clips in the corpus, in the same shape.
    """
    cosines, places = np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
    seen = 0
    for embeddings in shards:
        own = np.broadcast_to(np.arange(seen, seen + len(embeddings)), (len(queries), len(embeddings)))
        cosines = np.concatenate([cosines, queries @ embeddings.T], axis=1)
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :keep]
        cosines = np.take_along_axis(cosines, order, axis=1)
        places = np.take_along_axis(np.concatenate([places, own], axis=1), order, axis=1)
        seen += len(embeddings)
    return cosines, places


def assign(cosines: Floats, places: NDArray[np.int64], per_query: int, without: Collection[int] = ()) -> list[Match]:
    """Assign up to `per_query` corpus clips to each query, every corpus clip at most once, those of `without` never.

    Pairs are assigned greedily, most similar first. A corpus clip near several gold clips, possibly of different
    classes, goes to only one of them; otherwise it would enter training several times with contradictory labels.

    Args:
        cosines: (Q, K) from `nearest`; K = `per_query` · Q + the clips in `without`, or the whole corpus, leaves no
            query short.
        places: (Q, K) from `nearest`.
    """
    queries = np.repeat(np.arange(cosines.shape[0]), cosines.shape[1])
    taken = set(without)
    counts = [0] * cosines.shape[0]
    found = []
    for flat in np.argsort(-cosines.ravel(), kind="stable"):
        query, place = int(queries[flat]), int(places.ravel()[flat])
        if counts[query] < per_query and place not in taken:
            found.append(Match(query, place, counts[query], float(cosines.ravel()[flat])))
            taken.add(place)
            counts[query] += 1
    return found


def find_nearest(
    plan: RetrieveAudioPlan,
    corpus_dir: Path,
    shards: Sequence[Shard],
    gold: GoldSet,
    train: Mapping[int, Sequence[GoldClip]],
    clap: Path,
    rate: int,
    code_version: str,
    without: Collection[str] = (),
) -> list[Found]:
    """Find the clips nearest to the training clips of every replicate (`train`), among the audio `shards`.

    Recordings whose key is in `without` are left out.
    """
    store, size = ItemStore("retrieve_audio", code_version, scope=plan.scope), plan.settings.batch_size
    digest = artifact_hash(clap)
    made = obtain_all(
        {
            place: Task(
                store, {"clap": digest, "shard": shard.sha256}, partial(_embed_shard, corpus_dir, shard, clap, size)
            )
            for place, shard in enumerate(shards)
        }
    )
    by_id = {clip.clip_id: clip for clips in train.values() for clip in clips}
    rows = {clip_id: row for row, clip_id in enumerate(sorted(by_id))}
    scorer = ClapScorer.load(clap, batch_size=size)
    own_rate = scorer.sample_rate_hz
    most = plan.clips_per_gold * max(len(clips) for clips in train.values()) + len(without)
    queries = scorer.embed_audio((gold.load(by_id[clip_id], own_rate) for clip_id in rows), own_rate)
    embedded = [np.load(item / "embeddings.npy", mmap_mode="r", allow_pickle=False) for item in made.values()]
    cosines, places = nearest(queries, embedded, most)
    starts = list(accumulate(map(len, embedded), initial=0))
    firsts = list(accumulate((shard.clips for shard in shards), initial=0))
    facts = cache(lambda shard: read_json(made[shard] / "clips.json"))
    aside = [
        start + row
        for shard, start in enumerate(starts[:-1] if without else ())
        for row, told in enumerate(facts(shard))
        if recording_of(told["key"]) in without
    ]
    found: list[Found] = []
    for replicate, clips in train.items():
        own = [rows[clip.clip_id] for clip in clips]
        for match in assign(cosines[own], places[own], plan.clips_per_gold, aside):
            shard = int(np.searchsorted(starts, match.place, side="right")) - 1
            told = facts(shard)[match.place - starts[shard]]
            source = clips[match.query]
            judged = {"model_hash": digest, "nearest_clip_id": source.clip_id, "nearest_similarity": match.cosine}
            place = firsts[shard] + told["place"]
            found.append((place, corpus_clip(RETRIEVED, replicate, source, match.rank, told, rate, **judged)))
    return found
