"""The manifest of a corpus from the facts of its shards, in bounded memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from common.config.corpus import PrepareCorpusConfig
from common.corpus import VERSION, Kind, Shard, Split
from common.errors import DataError
from common.hashing import hash_json
from common.storage import read_json
from components.prepare_corpus.shards import Models
from components.prepare_corpus.sources import Dropped, Source, check_dropped
from components.prepare_corpus.store import ShardStore

Number = TypeVar("Number", int, float)

EMPTY = {"version": VERSION, "clips": 0, "source": "none", "shards": [], "labels": []}


class Statistics:
    """Of all clips of a corpus, added shard by shard; a context manager."""

    def __init__(self) -> None:
        self.clips = 0
        self.dropped = Dropped()
        self.labels: set[str] = set()
        self._seconds = 0.0
        self._durations_s: list[float] = []
        self._characters: list[int] = []
        # In a file that SQLite deletes: two million captions would fill the memory that batches need.
        self._captions = sqlite3.connect("")
        self._captions.execute("CREATE TABLE captions (hash INTEGER PRIMARY KEY)")

    def __enter__(self) -> Statistics:
        return self

    def __exit__(self, *exception: object) -> None:
        self._captions.close()

    def add(self, facts: dict[str, Any]) -> None:
        """Count one shard."""
        self.dropped.update(Dropped.from_json(facts["dropped"]))
        if not facts["clips"]:
            return
        self.clips += facts["clips"]
        self.labels.update(facts["labels"])
        self._seconds += facts["seconds"]
        self._durations_s = _range([*self._durations_s, *facts["durations_s"]])
        self._characters = _range([*self._characters, *map(len, facts["captions"])])
        hashes = ((int(hash_json(caption)[:15], 16),) for caption in facts["captions"])
        self._captions.executemany("INSERT OR IGNORE INTO captions VALUES (?)", hashes)

    def as_json(self) -> dict[str, Any]:
        """For the manifest."""
        with closing(self._captions.execute("SELECT COUNT(*) FROM captions")) as found:
            distinct = int(found.fetchone()[0])
        return {
            "clips": self.clips,
            "hours": round(self._seconds / 3600, 6),
            "duration_s": self._durations_s,
            "captions": {"distinct": distinct, "characters": self._characters},
            "labels": sorted(self.labels),
        }


def _range(values: Sequence[Number]) -> list[Number]:
    return [min(values), max(values)]


def make_manifest(
    settings: PrepareCorpusConfig,
    source: Source,
    store: ShardStore,
    models: Models,
    names: Sequence[tuple[str, str]],
    target: Path,
) -> tuple[dict[str, Any], Dropped]:
    """The manifest of finished shards, which are linked into `target` where that costs no space.

    Args:
        settings: of the corpus.
        source: of its clips.
        store: of its shards.
        models: that encoded them.
        names: of each latent shard and its audio shard, in order.
        target: the artifact.

    Raises:
        DataError: too much was dropped, or fewer than two shards have clips.
    """
    survey = source.survey()
    with Statistics() as statistics:
        statistics.dropped.update(survey.dropped)
        filled = []
        for pair in names:
            facts = store.facts(pair[0])
            statistics.add(facts)
            if facts["clips"]:
                filled.append(pair)
        dropped, figures = statistics.dropped, statistics.as_json()
    absent = source.absent(statistics.clips + dropped.total - survey.dropped.total)
    if absent:
        dropped.add("absent_audio", f"{absent} captions name clips that are in none of the shards")
        dropped.counts["absent_audio"] += absent - 1
    check_dropped(dropped, survey.captions, settings.max_bad_fraction)
    if len(filled) < 2:
        raise DataError(f"the corpus has {len(filled)} shards with clips; at least two are needed, add clips")
    # At least one shard is held out, at least one trained on.
    training = max(1, min(len(filled) - 1, round(len(filled) * (1 - settings.heldout_fraction))))
    kinds: list[tuple[Kind, int]] = [("latents", 0), *([("audio", 1)] * settings.keep_audio)]  # type: ignore[list-item]
    shards: list[Shard] = []
    for kind, place in kinds:
        for number, pair in enumerate(filled):
            split: Split = "train" if number < training else "heldout"
            shards.append(store.publish(pair[place], store.facts(pair[place]), kind, split, target, number))
    vae = read_json(target / "vae" / "config.json")
    manifest = {
        "version": VERSION,
        "source": settings.source,
        "shards": [shard.model_dump(mode="json", exclude_none=True) for shard in shards],
        **figures,
        "dropped": dict(dropped.counts),
        "dropped_examples": dropped.examples,
        "excluded": survey.excluded,
        "sample_rate_hz": settings.sample_rate_hz,
        "channels": settings.channels,
        "latent_dtype": settings.latent_dtype,
        "vae": settings.vae,
        "vae_hash": models.vae_hash,
    }
    return manifest, dropped
