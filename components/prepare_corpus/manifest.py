"""Manifest of a corpus, made from the facts of its shards in little memory."""

from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from common.config.corpus import PrepareCorpusConfig
from common.corpus.shards import VERSION, Kind, Shard, Split
from common.errors import DataError
from common.storage.hashing import hash_json
from components.prepare_corpus.sources import Dropped, Source
from components.prepare_corpus.store import Models, ShardFacts, ShardStore

Number = TypeVar("Number", int, float)

LINKED_BYTES = 2**32
"""Largest corpus whose shards are linked into the artifact; every stage that reads an artifact hashes all its files."""

EMPTY = {"version": VERSION, "clips": 0, "source": "none", "shards": [], "labels": []}


def make_manifest(
    settings: PrepareCorpusConfig,
    source: Source,
    store: ShardStore,
    models: Models | None,
    names: Sequence[tuple[str | None, str]],
    target: Path,
) -> tuple[dict[str, Any], Dropped]:
    """Manifest of finished shards, and what was dropped; a small corpus is hard-linked into `target` if possible.

    Args:
        models: autoencoder and tokenizer; None = there are no latents.
        names: names of each latent shard, if there is one, and its audio shard, in order.

    Raises DataError: too much was dropped, or fewer than two shards have clips.
    """
    survey = source.survey()
    dropped, filled, latents = Dropped(), list[tuple[str | None, str]](), list[ShardFacts]()
    dropped.update(survey.dropped)
    clips, seconds, channels, labels = 0, 0.0, 0, set[str]()
    durations_s: list[float] = []
    characters: list[int] = []
    # Eight bytes a caption: the texts of two million would fill the memory that batches need.
    hashes = array("q")
    for pair, facts in zip(names, store.all_facts([latent or audio for latent, audio in names]), strict=True):
        dropped.update(facts.dropped)
        if not facts.clips:
            continue
        filled.append(pair)
        if pair[0]:
            latents.append(facts.model_copy(update={"captions": []}))
        clips += facts.clips
        seconds += facts.seconds
        channels = facts.latent_channels
        labels.update(facts.labels)
        durations_s = _range([*durations_s, *facts.durations_s])
        characters = _range([*characters, *map(len, facts.captions)])
        hashes.extend(int(hash_json(caption)[:15], 16) for caption in facts.captions)
    if absent := source.absent(clips + dropped.total - survey.dropped.total):
        dropped.update(
            Dropped(Counter(absent_audio=absent), [f"{absent} captions name clips that are in none of the shards"])
        )
    dropped.check(survey.captions, settings.max_bad_fraction)
    if len(filled) < 2:
        raise DataError(f"the corpus has {len(filled)} shards with clips; at least two are needed, add clips")
    manifest = {
        "version": VERSION,
        "source": settings.source,
        "shards": _publish(settings, store, filled, latents, target),
        "clips": clips,
        "hours": round(seconds / 3600, 6),
        "duration_s": durations_s,
        "captions": {"distinct": len(np.unique(hashes)), "characters": characters},
        "labels": sorted(labels),
        "latent_channels": channels,
        "dropped": dict(dropped.counts),
        "dropped_examples": dropped.examples,
        "excluded": survey.excluded,
        "sample_rate_hz": settings.sample_rate_hz,
        "channels": settings.channels,
        "latent_dtype": settings.latent_dtype,
        "vae": settings.vae,
        "vae_hash": models and models.vae_hash,
    }
    return manifest, dropped


def _range(values: Sequence[Number]) -> list[Number]:
    return [min(values), max(values)]


def _publish(
    settings: PrepareCorpusConfig,
    store: ShardStore,
    names: Sequence[tuple[str | None, str]],
    latents: list[ShardFacts],
    target: Path,
) -> list[dict[str, Any]]:
    """Manifest entries of shards with clips: all latents, then all audio."""
    kinds: dict[Kind, tuple[list[str], list[ShardFacts]]] = {"latents": ([x for x, _ in names if x], latents)}
    if settings.keep_audio:
        audio = [pair[1] for pair in names]
        kinds["audio"] = audio, [facts.model_copy(update={"captions": []}) for facts in store.all_facts(audio)]
    total = sum(facts.bytes for _, every in kinds.values() for facts in every)
    link = target if total <= LINKED_BYTES else None
    # At least one shard is held out, at least one trained on.
    training = max(1, min(len(names) - 1, round(len(names) * (1 - settings.heldout_fraction))))
    shards: list[Shard] = []
    for kind, (found, every) in kinds.items():
        for number, (name, facts) in enumerate(zip(found, every, strict=True)):
            split: Split = "train" if number < training else "heldout"
            shards.append(store.publish(name, facts, kind, split, link, number))
    return [shard.model_dump(mode="json", exclude_none=True) for shard in shards]
