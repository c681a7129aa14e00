"""One training loop for every model of the project.

Everything random in step k is seeded by (seed, k), so the step number is the whole state of the
data position and of the random generators: a resumed run equals the unbroken one bit for bit on
the CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from common.config.base import OptimConfig
from common.errors import DataError
from common.log import Progress, event, get_logger
from common.seeding import derive_seed
from common.stage import model_time
from common.storage import publish_dir, read_json, write_json

log = get_logger("training")

LossFunction = Callable[[int, torch.Generator], tuple[Tensor, Mapping[str, float]]]
"""`loss(step, generator) -> (scalar to minimise, figures to record)`. Draws its own batch of
`step` with `generator`; the global generator is seeded as well (for dropout)."""


def learning_rate_factor(config: OptimConfig, step: int) -> float:
    """Multiplier of the learning rate at `step` (from 0): linear warm-up, then the schedule.

    `inverse` is InverseLR of stable-audio-tools: (1 + step / inverse_gamma) ** -0.5.
    """
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "cosine":
        span = max(1, config.steps - config.warmup_steps)
        progress = min(1.0, max(0, step - config.warmup_steps) / span)
        return warmup * 0.5 * (1.0 + math.cos(math.pi * progress))
    if config.schedule == "inverse":
        return warmup * (1.0 + step / config.inverse_gamma) ** -0.5
    return warmup


def fit(
    model: nn.Module,
    loss: LossFunction,
    config: OptimConfig,
    *,
    seed: int,
    name: str,
    checkpoint_dir: Path | None = None,
    evaluate: Callable[[int], Mapping[str, float]] | None = None,
) -> list[dict[str, float]]:
    """Train the parameters of `model` that require a gradient; leave the EMA weights in it if asked for.

    Args:
        model: trained in place.
        loss: see `LossFunction`.
        config: optimiser, schedule, steps.
        seed: enters every draw.
        name: for log lines.
        checkpoint_dir: where unfinished work is kept; None = nowhere.
        evaluate: called with the number of finished steps every `config.evaluate_every` steps
            (with the EMA weights in place); its figures join the curve.

    Returns:
        The curve: one row `{"step": …, "loss": …, figures…}` every `config.record_every` steps
        (means over the steps since the last row).

    Raises:
        DataError: the loss is not finite; the message names the step.
    """
    with model_time():
        return _fit(model, loss, config, seed, name, checkpoint_dir, evaluate)


def _fit(
    model: nn.Module,
    loss: LossFunction,
    config: OptimConfig,
    seed: int,
    name: str,
    checkpoint_dir: Path | None,
    evaluate: Callable[[int], Mapping[str, float]] | None,
) -> list[dict[str, float]]:
    parameters = {key: p for key, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
    )
    ema = {key: p.detach().clone() for key, p in parameters.items()} if config.ema_decay else None
    state = _Checkpoints(checkpoint_dir, parameters, optimizer, ema)
    start, curve = state.load()
    if start:
        event(log, "resumed", name=name, step=start)
    progress = Progress(log, name, config.steps)
    progress.advance(start) if start else None
    window: list[dict[str, float]] = []
    saved_at = time.monotonic()
    for step in range(start, config.steps):
        figures = _step(model, loss, parameters, optimizer, config, step, seed, name)
        if ema is not None:
            decay = min(config.ema_decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(ema.values()), [p.detach() for p in parameters.values()], 1 - decay)
        window.append(figures)
        done = step + 1
        evaluating = evaluate is not None and (done % config.evaluate_every == 0 or done == config.steps)
        if done % config.record_every == 0 or done == config.steps or evaluating:
            row = {key: sum(f[key] for f in window) / len(window) for key in figures}
            curve.append({"step": float(done), **row})
            window = []
        if evaluate is not None and evaluating:
            with _swapped(parameters, ema):
                curve[-1] |= evaluate(done)
        if time.monotonic() - saved_at > config.checkpoint_every_s and done < config.steps and not window:
            state.save(done, curve)
            saved_at = time.monotonic()
        progress.advance(loss=figures["loss"])
    if ema is not None:
        with torch.no_grad():
            for key, parameter in parameters.items():
                parameter.copy_(ema[key])
    return curve


def _step(
    model: nn.Module,
    loss: LossFunction,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    config: OptimConfig,
    step: int,
    seed: int,
    name: str,
) -> dict[str, float]:
    step_seed = derive_seed(seed, name, step)
    torch.manual_seed(step_seed)
    generator = torch.Generator().manual_seed(step_seed)
    model.train()
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * learning_rate_factor(config, step)
    value, figures = loss(step, generator)
    if not bool(torch.isfinite(value)):
        raise DataError(
            f"{name}: the loss of step {step} is {float(value.detach())}; lower the learning rate or look at that "
            f"batch (seed {step_seed})"
        )
    optimizer.zero_grad(set_to_none=True)
    value.backward()
    norm = torch.nn.utils.clip_grad_norm_(parameters.values(), config.max_grad_norm)
    optimizer.step()
    return {"loss": float(value.detach()), "grad_norm": float(norm), **figures}


class _swapped:
    """Context: the EMA weights stand in the model."""

    def __init__(self, parameters: dict[str, nn.Parameter], ema: dict[str, Tensor] | None) -> None:
        self._parameters, self._ema = parameters, ema

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for key, average in (self._ema or {}).items():
            current = self._parameters[key].detach().clone()
            self._parameters[key].copy_(average)
            average.copy_(current)


class _Checkpoints:
    """Unfinished training on disk: `step-N/` folders, published whole; the last two are kept."""

    def __init__(
        self,
        folder: Path | None,
        parameters: dict[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        ema: dict[str, Tensor] | None,
    ) -> None:
        self._folder, self._parameters, self._optimizer, self._ema = folder, parameters, optimizer, ema

    def _found(self) -> list[Path]:
        if self._folder is None:
            return []
        return sorted(self._folder.glob("step-*"), key=lambda path: int(path.name.split("-")[1]))

    def save(self, step: int, curve: list[dict[str, float]]) -> None:
        if self._folder is None:
            return
        tensors = {f"model.{key}": p.detach() for key, p in self._parameters.items()}
        tensors |= {f"ema.{key}": value for key, value in (self._ema or {}).items()}
        for index, values in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in values.items()}
        with publish_dir(self._folder / f"step-{step}") as folder:
            save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "state.safetensors")
            write_json(folder / "curve.json", {"step": step, "curve": curve})
        for old in self._found()[:-2]:
            for file in old.iterdir():
                file.unlink()
            old.rmdir()

    @torch.no_grad()
    def load(self) -> tuple[int, list[dict[str, float]]]:
        found = self._found()
        if not found:
            return 0, []
        tensors = load_file(found[-1] / "state.safetensors")
        saved = read_json(found[-1] / "curve.json")
        for key, parameter in self._parameters.items():
            parameter.copy_(tensors[f"model.{key}"])
            if self._ema is not None:
                self._ema[key].copy_(tensors[f"ema.{key}"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                state.setdefault(int(index), {})[key] = value
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": state})
        return int(saved["step"]), saved["curve"]
