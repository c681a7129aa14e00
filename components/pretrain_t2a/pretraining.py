"""From captioned latents to a trained pipeline."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from common.config.t2a import PretrainT2AConfig
from common.corpus import CorpusLatent
from common.diffusion.backend import StableAudio
from common.log import event, get_logger
from components.pretrain_t2a.architecture import build_pipeline
from components.pretrain_t2a.batches import group_by_length
from components.pretrain_t2a.trainer import train

log = get_logger("pretrain_t2a")


def pretrain(
    training: Iterable[CorpusLatent],
    held_out: Iterable[CorpusLatent],
    vae: Any,
    tokenizer: Any,
    text_encoder: Any | None,
    config: PretrainT2AConfig,
    *,
    seed: int,
    device: str,
    checkpoint_dir: Path | None = None,
) -> tuple[StableAudio, dict[str, Any]]:
    """Build a pipeline around the corpus's autoencoder and train it.

    Args:
        training: encoded clips of their own lengths.
        held_out: clips for the held-out loss.
        vae: the autoencoder that made the latents.
        tokenizer: of the text encoder.
        text_encoder: a pretrained T5 that stays frozen; None trains a random one along.
        config: shapes and training.
        seed: enters weights, split, batches, noise.
        device: `cpu` or `cuda`.
        checkpoint_dir: where unfinished training is kept.

    Returns:
        The trained pipeline, and what `training.json` says of it.
    """
    groups = group_by_length(training, tokenizer)
    clips = sum(map(len, groups))
    backend = build_pipeline(config, vae, tokenizer, seed, text_encoder)
    backend.pipeline.to(device)
    parts = (backend.transformer, backend.projection, backend.text_encoder, backend.vae)
    parameters = sum(parameter.numel() for part in parts for parameter in part.parameters())
    event(log, "pretraining", clips=clips, lengths=len(groups), parameters=parameters, device=device)
    curve = train(
        backend,
        groups,
        group_by_length(islice(held_out, config.held_out_max_clips), tokenizer),
        config,
        train_text_encoder=text_encoder is None,
        seed=seed,
        checkpoint_dir=checkpoint_dir,
    )
    record = {
        "start": config.start,
        "seed": seed,
        "steps": config.optim.steps,
        "clips": clips,
        "parameters": parameters,
        "held_out_loss": curve[-1]["held_out_loss"],
        "curve": curve,
    }
    return backend, record
