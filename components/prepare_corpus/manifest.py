"""Manifest of a corpus, made from the facts of its shards in bounded memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from common.config.corpus import PrepareCorpusConfig
from common.corpus.shards import VERSION, Kind, Shard, Split
from common.errors import DataError
from common.storage.hashing import hash_json
from components.prepare_corpus.sources import Source, check_dropped
from components.prepare_corpus.store import ShardStore
from components.prepare_corpus.survey import Dropped

if TYPE_CHECKING:
    from components.prepare_corpus.encoding import Models

Number = TypeVar("Number", int, float)

LINKED_BYTES = 2**32
"""Largest corpus whose shards are linked into the artifact; every stage that reads an artifact hashes all its files."""

EMPTY = {"version": VERSION, "clips": 0, "source": "none", "shards": [], "labels": []}


class Statistics:
    """Statistics over all clips of a corpus, added shard by shard; a context manager."""

    def __init__(self) -> None:
        self.clips = 0
        self.dropped = Dropped()
        self.labels: set[str] = set()
        self._seconds = 0.0
        self._durations_s: list[float] = []
        self._characters: list[int] = []
        self._latent_channels = 0
        # A temporary file that SQLite deletes: two million captions would fill the memory that batches need.
        self._captions = sqlite3.connect("")
        self._captions.execute("CREATE TABLE captions (hash INTEGER PRIMARY KEY)")

    def __enter__(self) -> Statistics:
        return self

    def __exit__(self, *exception: object) -> None:
        self._captions.close()

    def add(self, facts: dict[str, Any]) -> None:
        """Add the facts of one shard."""
        self.dropped.update(Dropped.from_json(facts["dropped"]))
        if not facts["clips"]:
            return
        self.clips += facts["clips"]
        self.labels.update(facts["labels"])
        self._seconds += facts["seconds"]
        self._durations_s = _range([*self._durations_s, *facts["durations_s"]])
        self._latent_channels = facts["latent_channels"]
        self._characters = _range([*self._characters, *map(len, facts["captions"])])
        hashes = ((int(hash_json(caption)[:15], 16),) for caption in facts["captions"])
        self._captions.executemany("INSERT OR IGNORE INTO captions VALUES (?)", hashes)

    def as_json(self) -> dict[str, Any]:
        """Entries of the manifest."""
        with closing(self._captions.execute("SELECT COUNT(*) FROM captions")) as found:
            distinct = int(found.fetchone()[0])
        return {
            "clips": self.clips,
            "hours": round(self._seconds / 3600, 6),
            "duration_s": self._durations_s,
            "captions": {"distinct": distinct, "characters": self._characters},
            "labels": sorted(self.labels),
            "latent_channels": self._latent_channels,
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
    """Manifest of finished shards, and what was dropped; a small corpus is hard-linked into `target` if possible.

    Args:
        names: names of each latent shard and its audio shard, in order.

    Raises DataError: too much was dropped, or fewer than two shards have clips.
    """
    survey = source.survey()
    with Statistics() as statistics:
        statistics.dropped.update(survey.dropped)
        filled: list[tuple[str, str]] = []
        for pair, facts in zip(names, store.all_facts([pair[0] for pair in names]), strict=True):
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
    manifest = {
        "version": VERSION,
        "source": settings.source,
        "shards": _publish(settings, store, filled, target),
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


def _publish(
    settings: PrepareCorpusConfig, store: ShardStore, names: Sequence[tuple[str, str]], target: Path
) -> list[dict[str, Any]]:
    """Manifest entries of shards with clips: all latents, then all audio."""
    kinds: dict[Kind, list[str]] = {"latents": [latents for latents, _ in names]}
    if settings.keep_audio:
        kinds["audio"] = [audio for _, audio in names]
    entries = {kind: [_entry(facts) for facts in store.all_facts(found)] for kind, found in kinds.items()}
    total = sum(entry["bytes"] for found in entries.values() for entry in found)
    link = target if total <= LINKED_BYTES else None
    # At least one shard is held out, at least one trained on.
    training = max(1, min(len(names) - 1, round(len(names) * (1 - settings.heldout_fraction))))
    shards: list[Shard] = []
    for kind, found in kinds.items():
        for number, (name, entry) in enumerate(zip(found, entries[kind], strict=True)):
            split: Split = "train" if number < training else "heldout"
            shards.append(store.publish(name, entry, kind, split, link, number))
    return [shard.model_dump(mode="json", exclude_none=True) for shard in shards]


def _entry(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: facts.get(name) for name in ("clips", "bytes", "sha256", "lengths")}
