"""Training of transformer, projection and (when random) text encoder on captioned latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from common.config.t2a import PretrainT2AConfig
from common.diffusion.backend import T2ABackend, error
from common.diffusion.objective import draw_times, drop_rows
from common.errors import ConfigError
from common.runtime.seeding import derive_seed
from common.storage.checkpoints import Checkpoints
from common.training import Curve, Part, fit
from components.pretrain_t2a.batches import Clips
from components.pretrain_t2a.stream import LatentStream

_HELD_OUT_TIMES = 4

DISTANCE = "clap_kernel"
"""Curve figure behind `keep_best_by: clap_distance`."""

Watch = Callable[[int], Mapping[str, float]]
"""Callback of every evaluation: takes the number of finished steps, returns figures for the curve."""


def train(
    backend: T2ABackend,
    stream: LatentStream,
    held_out: list[Clips],
    config: PretrainT2AConfig,
    *,
    train_text_encoder: bool,
    seed: int,
    checkpoints: Checkpoints | None = None,
    watch: Watch | None = None,
) -> Curve:
    """Train `backend` in place; it ends with the (averaged) weights of the best evaluation.

    Args:
        held_out: clips grouped by length, for `held_out_loss` in the curve.
        config: optimiser, guidance dropout, time sampling, and the figure that decides the best step.
        train_text_encoder: train T5 too; otherwise it is frozen.
        seed: seeds noise, times and dropout.

    Returns the curve: rows with `step`, `loss`, `grad_norm`; at every evaluation and at the end also `held_out_loss`
    and the figures of `watch`. Raises ConfigError: `optim` is null, so there is nothing to train.
    """
    if config.optim is None:
        raise ConfigError("pretrain_t2a.optim is null: there are no steps to train; set it, or hand the model on")
    modules = {"transformer": backend.transformer, "projection": backend.projection}
    backend.text_encoder.requires_grad_(train_text_encoder)
    if train_text_encoder:
        modules["text_encoder"] = backend.text_encoder
    if config.gradient_checkpointing:
        backend.transformer.enable_gradient_checkpointing()
    loss = loss_function(backend, stream, config)
    batch_size = config.optim.batch_size

    def evaluate(step: int) -> dict[str, float]:
        figures = {"held_out_loss": held_out_loss(backend, held_out, batch_size, seed)}
        return {**figures, **(watch(step) if watch else {})}

    figure = {"clap_distance": DISTANCE, "held_out_loss": "held_out_loss", "last": None}[config.keep_best_by]
    curve = fit(
        nn.ModuleDict(modules),
        loss,
        config.optim,
        seed=seed,
        name="pretrain_t2a",
        checkpoints=checkpoints,
        evaluate=evaluate,
        best=(lambda rows: best_step(rows, figure)) if figure else None,
    )
    for module in modules.values():
        module.eval()
    if config.gradient_checkpointing:
        backend.transformer.disable_gradient_checkpointing()
    return curve


def loss_function(
    backend: T2ABackend, stream: LatentStream, config: PretrainT2AConfig
) -> Callable[[int, torch.Generator, Part], tuple[Tensor, Mapping[str, float]]]:
    """Build the loss of one part of a step's batch, in the form that `common.training.fit` takes."""
    device = backend.device
    dropout, sampling = config.condition_dropout, config.timestep_sampling

    def loss(step: int, generator: torch.Generator, part: Part) -> tuple[Tensor, Mapping[str, float]]:
        clips, size = stream.batch(step, part)
        own = part.rows(size)
        t = draw_times(size, generator, sampling)
        eps = _noise((size, *clips.latents.shape[1:]), generator, device)
        drop = torch.rand(size, generator=generator) < dropout
        condition = backend.condition_tokens(clips.ids, clips.mask, clips.durations_s, trim=True)
        condition = drop_rows(condition, backend.null(condition), drop[own])
        return error(backend, clips.latents.to(device), eps[own].to(device), t[own].to(device), condition).mean(), {}

    return loss


def _noise(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    # Every process draws the whole batch's noise, so that their number does not change it; on a GPU this is cheap.
    if device.type != "cuda":
        return torch.randn(shape, generator=generator)
    own = torch.Generator(device).manual_seed(derive_seed(generator.initial_seed(), "noise"))
    return torch.randn(shape, generator=own, device=device)


def best_step(rows: Sequence[Mapping[str, float]], figure: str) -> int:
    """Step of the row with the smallest `figure`, the first among equals; the last step when no row has it."""
    measured = [row for row in rows if figure in row]
    if not measured:
        return int(rows[-1]["step"])
    return int(min(measured, key=lambda row: row[figure])["step"])


@torch.no_grad()
def held_out_loss(backend: T2ABackend, held_out: list[Clips], batch_size: int, seed: int) -> float:
    """Mean error on held-out clips, at fixed noise and a grid of times, without guidance dropout."""
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
