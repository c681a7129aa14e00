"""Pretrain the text-to-audio model on the corpus, or verify a published one and hand it on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from common.config.t2a import PretrainT2APlan, TextEncoderConfig
from common.items import ItemStore
from common.stage import model_time, stage
from common.storage import read_json, write_json
from components.pretrain_t2a.published import RANDOM, TEXT_ENCODER_FILES, hand_on, locate, verify

NAME = "pretrain_t2a"
TRAINING_FILE = "training.json"


def run(
    corpus_path: str, t2a_path: str, metrics_path: str, *, config: dict[str, Any], code_version: str
) -> dict[str, float | int | str]:
    """Write a StableAudioPipeline directory with `training.json` to `t2a_path`.

    Returns:
        The figures that also stand in `metrics_path`.
    """
    plan = PretrainT2APlan.model_validate(config)
    with stage(NAME, config, metrics_path, {"t2a": t2a_path}) as running:
        if plan.settings.start == RANDOM:
            _pretrain(Path(corpus_path), Path(t2a_path), plan, code_version)
        else:
            _hand_on(Path(t2a_path), plan)
        record = read_json(Path(t2a_path) / TRAINING_FILE)
        running.record({key: record[key] for key in ("parameters", "held_out_loss", "steps", "clips") if key in record})
    return running.figures


def _hand_on(target: Path, plan: PretrainT2APlan) -> None:
    settings = plan.settings
    folder = locate(settings.start, settings.revision)
    parameters = verify(folder, settings.sha256)
    hand_on(folder, target)
    write_json(
        target / TRAINING_FILE,
        {"start": settings.start, "revision": settings.revision, "parameters": parameters, "curve": []},
    )


def _pretrain(corpus_path: Path, target: Path, plan: PretrainT2APlan, code_version: str) -> None:
    import torch
    from transformers import AutoTokenizer

    from common.corpus import Corpus
    from common.diffusion.autoencoder import load_autoencoder
    from common.hashing import hash_dir
    from common.parallel import cpu_count
    from components.pretrain_t2a.pretraining import pretrain

    torch.set_num_threads(cpu_count())
    store = ItemStore(NAME, code_version)
    key = {"corpus": hash_dir(corpus_path), "plan": plan.model_dump(mode="json")}

    def make(folder: Path) -> None:
        corpus = Corpus(corpus_path)
        with model_time():
            backend, record = pretrain(
                corpus.latents("train"),
                corpus.latents("heldout"),
                load_autoencoder(corpus.vae_dir),
                AutoTokenizer.from_pretrained(str(corpus.tokenizer_dir)),
                _text_encoder(plan.settings.text_encoder),
                plan.settings,
                seed=plan.seed,
                device="cuda" if torch.cuda.is_available() else "cpu",
                checkpoint_dir=store.work_dir(**key),
            )
        backend.save(folder)
        write_json(folder / TRAINING_FILE, record)

    shutil.copytree(store.get_or_make(make, **key), target, dirs_exist_ok=True)


def _text_encoder(config: TextEncoderConfig) -> Any | None:
    """The published text encoder, None for a random one."""
    if config.start == RANDOM:
        return None
    from transformers.models.t5.modeling_t5 import T5EncoderModel

    folder = locate(config.start, config.revision, TEXT_ENCODER_FILES)
    return T5EncoderModel.from_pretrained(str(folder), use_safetensors=True).eval()
