"""Build or encode the captioned pretraining corpus as shards with a manifest."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from common.config.corpus import PrepareCorpusPlan
from common.hashing import hash_dir
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
    check_dropped,
    first_clips,
    make_all,
    make_audio_shard,
    make_latent_shard,
    publish,
    shard_ranges,
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
        if settings.source == "none":
            write_json(
                target / "manifest.json", {"version": 1, "clips": 0, "source": "none", "shards": [], "labels": []}
            )
            return running.figures
        torch.set_num_threads(1)
        store = ItemStore(NAME, code_version)
        source = open_source(settings, plan.seed)
        jobs = [
            ShardJob(store, {**source.key(first, last), "kind": "audio"}, first, last)
            for first, last in shard_ranges(source.clips, settings.clips_per_shard)
        ]
        audio = make_all(partial(make_audio_shard, source, settings.sample_rate_hz), [(job,) for job in jobs])
        facts = [read_json(folder / FACTS_FILE) for folder in audio]
        bad = [row for fact in facts for row in fact["dropped"]]
        check_dropped(bad, source.clips, settings.max_bad_fraction)
        captions = [(caption, label) for fact in facts for caption, label in fact["captions"]]
        vocabulary = build_vocabulary(caption for caption, _ in captions)
        with model_time():
            vae = open_vae(settings, first_clips(audio, settings.codec_fit_clips))
        tokenizer = open_tokenizer(settings, vocabulary)
        save(vae, tokenizer, target)
        vae_hash, text_hash = hash_dir(target / "vae"), hash_dir(target / "tokenizer")
        latent_jobs = [
            (job._replace(key={**job.key, "kind": "latents", "vae": vae_hash, "text": text_hash}), folder / SHARD_FILE)
            for job, folder in zip(jobs, audio, strict=True)
        ]
        device, workers = ("cuda", 1) if torch.cuda.is_available() else ("cpu", None)
        latents = make_all(partial(make_latent_shard, vae.to(device), tokenizer), latent_jobs, workers)
        bad += [row for folder in latents for row in read_json(folder / FACTS_FILE)["dropped"]]
        check_dropped(bad, source.clips, settings.max_bad_fraction)
        for row in bad[:20]:
            event(log, "clip_dropped", **row)
        # At least one shard is held out, at least one trained on.
        training = max(1, min(len(jobs) - 1, round(len(jobs) * (1 - settings.heldout_fraction))))
        shards = publish(latents, target, "latents", training)
        if settings.keep_audio:
            shards += publish(audio, target, "audio", training)
        write_json(target / "vocabulary.json", vocabulary)
        write_json(
            target / "manifest.json",
            {
                "version": 1,
                "clips": len(captions),
                "dropped": bad,
                "source": settings.source,
                "shards": [shard.model_dump() for shard in shards],
                "sample_rate_hz": settings.sample_rate_hz,
                "channels": settings.channels,
                "hop_length": int(vae.hop_length),
                "vae": settings.vae,
                "vae_hash": vae_hash,
                "labels": sorted({label for _, label in captions if label}),
                "captions": {"distinct": len({caption for caption, _ in captions})},
            },
        )
        running.record({"clips": len(captions), "dropped": len(bad), "shards": len(shards)})
    return running.figures
