"""Build or encode the captioned pretraining corpus as shards with a manifest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from common.config.corpus import PrepareCorpusConfig, PrepareCorpusPlan
from common.corpus import read_audio_shard
from common.errors import DataError
from common.hashing import hash_dir, hash_file, hash_json
from common.items import ItemStore
from common.log import event, get_logger
from common.stage import model_time, stage
from common.storage import read_json, write_json
from common.vocabulary import build_vocabulary
from components.prepare_corpus.encoding import open_tokenizer, open_vae, save
from components.prepare_corpus.shards import (
    FACTS_FILE,
    SHARD_FILE,
    ShardJob,
    make_all,
    make_audio_shard,
    make_latent_shard,
    publish,
)
from components.prepare_corpus.sources import open_source

NAME = "prepare_corpus"
log = get_logger(NAME)


def run(
    corpus_path: str, metrics_path: str, *, config: dict[str, Any], code_version: str
) -> dict[str, float | int | str]:
    """Write the corpus artifact (see `common.corpus`) to `corpus_path`.

    Returns:
        The figures that also stand in `metrics_path`.

    Raises:
        DataError: too many clips are unusable.
    """
    plan = PrepareCorpusPlan.model_validate(config)
    settings, target = plan.settings, Path(corpus_path)
    with stage(NAME, config, metrics_path, {"corpus": corpus_path}) as running:
        torch.set_num_threads(1)
        store = ItemStore(NAME, code_version)
        source = open_source(settings, plan.seed)
        key = {"source": hash_json(_source_key(settings)), "seed": plan.seed}
        jobs = [
            ShardJob(store, {**key, "kind": "audio", "clips": [first, last], "files": source.version(first, last)},
                     first, last)
            for first, last in _ranges(source.clips, settings.clips_per_shard)
        ]
        audio = make_all(partial(make_audio_shard, source, settings.sample_rate_hz), [(job,) for job in jobs])
        bad = [row for folder in audio for row in read_json(folder / FACTS_FILE)["dropped"]]
        _check_bad(bad, source.clips, settings.max_bad_fraction)
        captions = [(clip.caption, clip.label) for folder in audio for clip in read_audio_shard(folder / SHARD_FILE)]
        vocabulary = build_vocabulary(caption for caption, _ in captions)
        with model_time():
            vae = open_vae(settings, _fit_clips(audio, settings.codec_fit_clips))
        tokenizer = open_tokenizer(settings, vocabulary)
        save(vae, tokenizer, target)
        vae_hash, text_hash = hash_dir(target / "vae"), hash_dir(target / "tokenizer")
        latent_jobs = [
            (job._replace(key={**job.key, "kind": "latents", "vae": vae_hash, "text": text_hash}), folder / SHARD_FILE)
            for job, folder in zip(jobs, audio, strict=True)
        ]
        latents = make_all(partial(make_latent_shard, vae, tokenizer), latent_jobs)
        # At least one shard is held out, at least one trained on.
        training = max(1, min(len(jobs) - 1, round(len(jobs) * (1 - settings.heldout_fraction))))
        shards = publish(latents, target, "latents", training)
        if settings.keep_audio:
            shards += publish(audio, target, "audio", training)
        write_json(target / "vocabulary.json", vocabulary)
        write_json(target / "manifest.json", {
            "version": 1, "clips": len(captions), "dropped": bad, "source": settings.source,
            "shards": [shard.model_dump() for shard in shards], "sample_rate_hz": settings.sample_rate_hz,
            "channels": settings.channels, "hop_length": int(vae.hop_length), "vae": settings.vae, "vae_hash": vae_hash,
            "labels": sorted({label for _, label in captions if label}),
            "captions": {"distinct": len({caption for caption, _ in captions})},
        })
        running.record({"clips": len(captions), "dropped": len(bad), "shards": len(shards)})
    return running.figures


def _source_key(settings: PrepareCorpusConfig) -> dict[str, Any]:
    names = {"source", "audio_dir", "captions_file", "clips", "durations_s", "sample_rate_hz", "channels"}
    key = settings.model_dump(mode="json", include=names)
    if settings.source == "folder" and settings.captions_file:
        key["captions_sha256"] = hash_file(Path(settings.captions_file))
    return key


def _ranges(count: int, size: int) -> list[tuple[int, int]]:
    return [(first, min(first + size, count)) for first in range(0, count, size)]


def _fit_clips(folders: Sequence[Path], count: int) -> Iterator[Any]:
    every = (clip.audio for folder in folders for clip in read_audio_shard(folder / SHARD_FILE))
    return islice(every, count)


def _check_bad(bad: list[dict[str, Any]], total: int, allowed: float) -> None:
    for row in bad[:20]:
        event(log, "clip_dropped", **row)
    if len(bad) > allowed * total:
        first = "; ".join(row["reason"] for row in bad[:3])
        raise DataError(f"{len(bad)} of {total} corpus clips are unusable, at most {allowed:.0%} allowed: {first}")
