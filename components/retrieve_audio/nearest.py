"""The corpus clips nearest to each gold clip by CLAP, unfiltered: "Retrieval" in the paper (arXiv 2410.02056).

The corpus may be too large for memory: its embeddings are seen shard by shard.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import accumulate, groupby
from pathlib import Path
from typing import NamedTuple

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
from common.storage.artifacts import artifact_hash
from common.storage.items import ItemStore
from components.retrieve_audio.found import Found

Floats = NDArray[np.float32]


@lru_cache(maxsize=1)
def _scorer(clap: Path, digest: str, batch_size: int) -> ClapScorer:
    """The CLAP in a folder of content `digest`, loaded once per process, not for each of thousands of shards."""
    return ClapScorer.load(clap, batch_size=batch_size)


def _embed_shard(corpus_dir: Path, shard: Shard, clap: tuple[Path, str, int], folder: Path) -> None:
    """Write `embeddings.npy` (recordings, D), rows of norm 1, and each one's first clip in the shard: `places.npy`."""
    scorer = _scorer(*clap)
    places: list[int] = []

    def waveforms() -> Iterator[Floats]:
        with Corpus(corpus_dir).open_shard(shard) as file:
            for _, alike in groupby(enumerate(read_audio_shard(file)), lambda row: recording_of(row[1].key)):
                place, clip = next(alike)
                places.append(place)
                yield resample(to_mono(clip.audio), clip.sample_rate_hz, scorer.sample_rate_hz)

    np.save(folder / "embeddings.npy", scorer.embed_audio(waveforms(), scorer.sample_rate_hz))
    np.save(folder / "places.npy", np.array(places, np.int64))


class Match(NamedTuple):
    """Assignment of corpus clip `place` to gold clip `query` as neighbour number `rank`; 0 = nearest."""

    query: int
    place: int
    rank: int
    cosine: float


def nearest(
    queries: Floats, shards: Iterable[tuple[Floats, NDArray[np.int64]]], keep: int
) -> tuple[Floats, NDArray[np.int64]]:
    """The `keep` corpus clips nearest to each query; memory grows with queries times `keep`, not with the corpus.

    Args:
        queries: (Q, D) float32, rows of norm 1.
        shards: embeddings of some clips, (B, D) each, rows of norm 1, and the places (B,) of these in the corpus.

    Returns cosines (Q, at most `keep`), descending along each row, ties in the order of the corpus; and the places of
    these clips, in the same shape.
    """
    cosines, places = np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
    for embeddings, own in shards:
        cosines = np.concatenate([cosines, queries @ embeddings.T], axis=1)
        places = np.concatenate([places, np.broadcast_to(own, (len(queries), len(own)))], axis=1)
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :keep]
        cosines, places = np.take_along_axis(cosines, order, axis=1), np.take_along_axis(places, order, axis=1)
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
    code_version: str,
    without: Collection[int] = (),
) -> list[Found]:
    """Find the clips nearest to the training clips of every replicate (`train`), among the audio `shards`.

    Recordings whose place is in `without` are left out.
    """
    store, digest = ItemStore("retrieve_audio", code_version, scope=plan.scope), artifact_hash(clap)
    judge = clap, digest, plan.settings.batch_size
    made = obtain_all(
        {
            place: Task(store, {"clap": digest, "shard": shard.sha256}, partial(_embed_shard, corpus_dir, shard, judge))
            for place, shard in enumerate(shards)
        }
    )
    by_id = {clip.clip_id: clip for clips in train.values() for clip in clips}
    rows = {clip_id: row for row, clip_id in enumerate(sorted(by_id))}
    scorer = _scorer(*judge)
    own_rate = scorer.sample_rate_hz
    most = plan.clips_per_gold * max(len(clips) for clips in train.values()) + len(without)
    queries = scorer.embed_audio((gold.load(by_id[clip_id], own_rate) for clip_id in rows), own_rate)
    firsts = accumulate((shard.clips for shard in shards), initial=0)
    # One shard is open at a time: thousands of memory maps would take more files than a process may have open.
    embedded = (
        (np.load(item / "embeddings.npy", allow_pickle=False), np.load(item / "places.npy", allow_pickle=False) + first)
        for item, first in zip(made.values(), firsts, strict=False)
    )
    cosines, places = nearest(queries, embedded, most)
    found: list[Found] = []
    for replicate, clips in train.items():
        own = [rows[clip.clip_id] for clip in clips]
        for match in assign(cosines[own], places[own], plan.clips_per_gold, without):
            source = clips[match.query]
            judged = {"model_hash": digest, "nearest_clip_id": source.clip_id, "nearest_similarity": match.cosine}
            found.append(Found(match.place, RETRIEVED, replicate, source, match.rank, judged))
    return found
