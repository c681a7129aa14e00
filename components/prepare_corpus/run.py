"""Reads captioned audio or the built-in generator, encodes it in shards, writes manifest, autoencoder and tokenizer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.config.corpus import SPECTRAL, PrepareCorpusConfig, PrepareCorpusPlan
from common.corpus.vocabulary import Vocabulary, build_vocabulary
from common.log import event, get_logger
from common.runtime.stage import Figures, stage
from common.runtime.timing import model_time
from common.storage import write_json
from common.storage.items import ItemStore
from components.prepare_corpus.corpus import ShardMaker, make_all, make_shards
from components.prepare_corpus.manifest import EMPTY, make_manifest
from components.prepare_corpus.procedural import open_source
from components.prepare_corpus.store import Models, ShardStore

NAME = "prepare_corpus"
log = get_logger(NAME)


def run(corpus_path: str, metrics_path: str, *, config: dict[str, Any], code_version: str) -> Figures:
    """Write the corpus artifact (see `common.corpus.shards`) to `corpus_path`; the shards stay in the run store.

    Returns the figures that are also written to `metrics_path`. Raises DataError: captions or audio cannot be read, or
    too many clips are unusable.
    """
    plan = PrepareCorpusPlan.model_validate(config)
    target = Path(corpus_path)
    with stage(NAME, config, metrics_path, {"corpus": corpus_path}) as running:
        if plan.settings.source == "none" or not plan.wanted:
            write_json(target / "vocabulary.json", [])
            write_json(target / "manifest.json", EMPTY)
            return running.figures
        # Checked first: reading a large corpus takes hours, and a wrong autoencoder shows at once.
        vae = _published_vae(plan.settings) if plan.latents else None
        items = ItemStore(NAME, code_version, scope=plan.scope)
        store = ShardStore(items, code_version)
        store.remove_abandoned()
        maker = ShardMaker(open_source(plan, items), plan.settings, store)
        write_json(target / "vocabulary.json", vocabulary := build_vocabulary(_captions(maker)))
        models, facts = _models(maker, vae, vocabulary, target) if plan.latents else (None, {})
        names = make_shards(maker, models)
        manifest, dropped = make_manifest(plan.settings, maker.source, store, models, names, target)
        for example in dropped.examples:
            event(log, "clip_dropped", reason=example)
        write_json(target / "manifest.json", manifest | facts)
        running.record(
            {"clips": manifest["clips"], "dropped": dropped.total, "shards": len(names), "hours": manifest["hours"]}
        )
    return running.figures


def _published_vae(settings: PrepareCorpusConfig) -> Any:
    if settings.vae == SPECTRAL:
        return None
    from components.prepare_corpus.encoding import open_published_vae

    with model_time():
        return open_published_vae(settings)


def _models(maker: ShardMaker, vae: Any, vocabulary: Vocabulary, target: Path) -> tuple[Models, dict[str, int]]:
    """Save tokenizer and autoencoder, fitted if `vae` is None; returns facts for the manifest too."""
    import torch

    from common.diffusion.spectral_codec import SpectralCodec
    from components.prepare_corpus.encoding import open_tokenizer, save

    torch.set_num_threads(1)
    settings = maker.settings
    if vae is None:
        make_all(maker.audio, min(maker.source.shards, -(-settings.codec_fit_clips // settings.clips_per_shard)))
        with model_time():
            vae = SpectralCodec.fit((clip[0] for clip in maker.first_clips(settings.codec_fit_clips)), settings.codec)
    return save(vae, open_tokenizer(settings, vocabulary), target), {"hop_length": int(vae.hop_length)}


def _captions(maker: ShardMaker) -> Iterator[str]:
    captions = maker.source.captions()
    if captions is not None:
        yield from captions
        return
    for name in make_all(maker.audio, maker.source.shards):
        yield from maker.store.facts(name).captions
