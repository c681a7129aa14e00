"""Trains transformer, projection and (when it is random) text encoder on latents with captions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from common.config.t2a import PretrainT2AConfig
from common.diffusion.backend import StableAudio
from common.diffusion.objective import draw_times, drop_condition, error
from common.seeding import derive_seed
from common.training import fit
from components.pretrain_t2a.batches import Clips, Schedule

_HELD_OUT_TIMES = 4


def train(
    backend: StableAudio,
    training: list[Clips],
    held_out: list[Clips],
    config: PretrainT2AConfig,
    *,
    train_text_encoder: bool,
    seed: int,
    checkpoint_dir: Path | None = None,
) -> list[dict[str, float]]:
    """Train `backend` in place; it ends with the averaged weights.

    Args:
        backend: the untrained pipeline.
        training: clips by length.
        held_out: clips by length, for `held_out_loss` in the curve.
        config: optimiser, guidance dropout, times, precision.
        train_text_encoder: also train T5; else it stays as it is.
        seed: enters batches, noise, times, dropout.
        checkpoint_dir: where unfinished training is kept.

    Returns:
        The curve: rows with `step`, `loss`, `grad_norm` and, at the end and at every evaluation, `held_out_loss`.
    """
    parts = {"transformer": backend.transformer, "projection": backend.projection}
    if train_text_encoder:
        parts["text_encoder"] = backend.text_encoder
    else:
        backend.text_encoder.requires_grad_(False)
    if config.gradient_checkpointing:
        backend.transformer.enable_gradient_checkpointing()
    schedule = Schedule(training, config.optim.batch_size, seed)
    device = backend.device

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        group, rows = schedule.batch(step)
        clips = training[group].rows(rows)
        t = draw_times(len(rows), generator, config.timestep_sampling).to(device)
        eps = torch.randn(clips.latents.shape, generator=generator).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16"):
            condition = backend.condition_tokens(clips.ids, clips.mask, clips.durations_s, trim=True)
            condition = drop_condition(condition, backend.null(condition), config.condition_dropout, generator)
            errors = error(backend, clips.latents.to(device), eps, t, condition)
        return errors.mean(), {}

    def evaluate(_: int) -> dict[str, float]:
        return {"held_out_loss": held_out_loss(backend, held_out, config.optim.batch_size, seed)}

    curve = fit(
        nn.ModuleDict(parts),
        loss,
        config.optim,
        seed=seed,
        name="pretrain_t2a",
        checkpoint_dir=checkpoint_dir,
        evaluate=evaluate,
    )
    for part in parts.values():
        part.eval()
    return curve


@torch.no_grad()
def held_out_loss(backend: StableAudio, held_out: list[Clips], batch_size: int, seed: int) -> float:
    """Mean error on clips that were not trained on, at fixed noise and a grid of times, without guidance dropout."""
    errors = []
    for number, group in enumerate(held_out):
        generator = torch.Generator().manual_seed(derive_seed(seed, "held out noise", number))
        for rows in torch.arange(len(group)).split(batch_size):
            clips = group.rows(rows)
            z = clips.latents.to(backend.device)
            condition = backend.condition_tokens(clips.ids, clips.mask, clips.durations_s)
            for i in range(_HELD_OUT_TIMES):
                eps = torch.randn(z.shape, generator=generator).to(backend.device)
                t = torch.full((len(rows),), (i + 0.5) / _HELD_OUT_TIMES, device=backend.device)
                errors.append(error(backend, z, eps, t, condition))
    return float(torch.cat(errors).mean())
