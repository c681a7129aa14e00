"""One optimiser step, in one process or in several together."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, broadcast_object_list
from torch import Tensor, nn

from common.config.base import OptimConfig
from common.errors import ConfigError, DataError
from common.runtime.devices import autocast
from common.runtime.seeding import derive_seed
from common.runtime.timing import Stopwatch
from common.training.sharding import gathered, shard, synchronise, unshard, whole


@dataclass(frozen=True)
class Part:
    """Part `index` of `count` equal parts of a batch.

    With W processes, process r takes part `k * W + r` in micro-step k, so the parts of one micro-step are
    neighbours.
    """

    index: int = 0
    count: int = 1
    """Processes times accumulation."""
    processes: int = 1
    waiting: Stopwatch = field(default_factory=Stopwatch, compare=False, repr=False)
    """Counts the blocks in which the loss waits for data."""

    def rows(self, size: int) -> slice:
        """Rows of this part in a batch of `size`. Raises ConfigError: `size` is not a multiple of `count`."""
        share = share_of(size, self.count)
        return slice(self.index * share, (self.index + 1) * share)

    def gathered_rows(self, size: int) -> slice:
        """Rows that `gather` returns from a batch of `size`: those of this micro-step."""
        share = share_of(size, self.count)
        first = self.index - self.index % self.processes
        return slice(first * share, (first + self.processes) * share)

    def gather(self, tensor: Tensor) -> Tensor:
        """Concatenate the rows of all processes in order, `(B, …)` to `(processes * B, …)`; gradients flow back.

        For contrastive losses: each process computes the loss over all rows of the micro-step; the mean over
        the processes is that same loss. Gradient accumulation does not widen the gathered batch.
        """
        if self.processes == 1:
            return tensor
        from torch.distributed.nn.functional import all_gather

        return torch.cat(list(all_gather(tensor.contiguous())))


WHOLE = Part()

LossFunction = Callable[[int, torch.Generator, Part], tuple[Tensor, Mapping[str, float]]]
"""`loss(step, generator, part) -> (scalar to minimise, figures to record)`.

The batch of a step and all its draws are a function of `step` and `generator` alone, the same for
every part; the result is the mean over the rows of `part`. The global generator is seeded too, for
dropout, differently for each part.
"""

PATIENCE = timedelta(hours=1)
"""Timeout of collective operations; other processes wait while the first one stores a checkpoint."""


class Engine:
    """Group of processes that train a model together.

    accelerate joins the processes and averages their gradients (DDP); precision is set by autocast
    on the device that the model is on. Parameters that require a gradient are trained.

    Raises ConfigError: the batch cannot be split evenly.
    """

    def __init__(self, model: nn.Module, loss: LossFunction, config: OptimConfig, seed: int, name: str) -> None:
        self.model, self._config, self._seed, self._name = model, config, seed, name
        self.device, self.waiting = next(model.parameters()).device, Stopwatch()
        self._accelerator = Accelerator(
            cpu=self.device.type == "cpu",
            device_placement=False,
            gradient_accumulation_steps=config.accumulation,
            kwargs_handlers=[
                DistributedDataParallelKwargs(find_unused_parameters=True, gradient_as_bucket_view=True),
                InitProcessGroupKwargs(timeout=PATIENCE),
            ],
        )
        self.processes, self.is_main = self._accelerator.num_processes, self._accelerator.is_main_process
        share_of(config.batch_size, self.processes * config.accumulation)
        self._root: nn.Module = _LossModule(model, loss, self.device, config.precision)
        self.sharded = config.sharding == "fsdp" and self.processes > 1
        if self.sharded:
            self.broadcast(dict(model.named_parameters()))
            shard(self._root, self.processes, self.device)
        elif self.processes > 1:
            self._root = self._accelerator.prepare_model(self._root, device_placement=False)
        self._modules = list(self._root.modules())
        self.parameters = {key: p for key, p in model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            # A third of the time of the default on a CPU, where it cannot step sharded parameters.
            fused=self.device.type == "cuda" or not self.sharded,
        )

    def step(self, step: int, flags: Mapping[str, bool]) -> tuple[dict[str, float], dict[str, bool]]:
        """Run one optimiser step (from 0).

        Returns the figures of the step, means over all parts, and the flags, each true if any process raised it. Raises
        DataError: loss or gradient is not finite; the weights are those before the step.
        """
        if not all(module.training for module in self._modules):
            self._root.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self._config.learning_rate * learning_rate_factor(self._config, step)
        self.optimizer.zero_grad(set_to_none=True)
        figures = means([self._micro_step(step, micro) for micro in range(self._config.accumulation)])
        norm = self._accelerator.clip_grad_norm_(self.parameters.values(), self._config.max_grad_norm)
        figures, flags = self._agree(figures, flags)
        figures = {"loss": figures.pop("loss"), "grad_norm": float(whole(norm)), **figures}
        self._check_finite(step, figures)
        self.optimizer.step()
        return figures, flags

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in any process."""
        return self._agree({}, {"flag": flag})[1]["flag"]

    def wait(self) -> None:
        """Wait for all other processes (barrier)."""
        self._accelerator.wait_for_everyone()

    def share(self, value: Any) -> Any:
        """Broadcast `value` of the first process to all."""
        return broadcast_object_list([value])[0] if self.processes > 1 else value

    def broadcast(self, tensors: Mapping[str, Tensor]) -> None:
        """Broadcast `tensors` of the first process to all, in place."""
        if self.processes > 1:
            for value in tensors.values():
                torch.distributed.broadcast(value.detach(), 0)

    def callable_model(self) -> AbstractContextManager[None]:
        """Allow calls to the model's parts inside the block, for evaluation."""
        return gathered(self._root)

    def finish(self) -> None:
        """Restore an ordinary model, with whole weights in every process."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.sharded:
            unshard(self._root)

    def _micro_step(self, step: int, micro: int) -> dict[str, float]:
        count = self.processes * self._config.accumulation
        part = Part(micro * self.processes + self._accelerator.process_index, count, self.processes, self.waiting)
        step_seed = self._step_seed(step)
        self._seed_global(step_seed if count == 1 else derive_seed(step_seed, part.index))
        generator = torch.Generator().manual_seed(step_seed)
        with self._synchronising(micro == self._config.accumulation - 1):
            value, figures = self._root(step, generator, part)
            self._accelerator.backward(value)
        return {"loss": float(value.detach()), **figures}

    def _seed_global(self, seed: int) -> None:
        # torch.manual_seed queries every device type, which takes 5 % of a small model's step.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed_all(seed)

    def _step_seed(self, step: int) -> int:
        return derive_seed(self._seed, self._name, step)

    def _synchronising(self, last: bool) -> AbstractContextManager[None]:
        """Average gradients over the processes in the last micro-step only."""
        if self.sharded:
            synchronise(self._root, last)
        return nullcontext() if last or self.sharded else self._accelerator.no_sync(self._root)

    def _agree(self, figures: dict[str, float], flags: Mapping[str, bool]) -> tuple[dict[str, float], dict[str, bool]]:
        """Reduce figures to their means and flags to their union over the processes, in one message."""
        if self.processes == 1:
            return figures, dict(flags)
        values = torch.tensor([*figures.values(), *flags.values()], dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(values)
        summed = values.tolist()
        means = {key: value / self.processes for key, value in zip(figures, summed, strict=False)}
        return means, {key: value > 0 for key, value in zip(flags, summed[len(figures) :], strict=True)}

    def _check_finite(self, step: int, figures: Mapping[str, float]) -> None:
        for figure, what in (("loss", "loss"), ("grad_norm", "gradient's norm")):
            if not math.isfinite(figures[figure]):
                raise DataError(
                    f"{self._name}: the {what} of step {step} is {figures[figure]}; lower the learning rate or look at "
                    f"that batch (seed {self._step_seed(step)}). The checkpoint before it is kept"
                )


class _LossModule(nn.Module):
    """A loss wrapped as a module, for the hooks of DDP and FSDP."""

    def __init__(self, model: nn.Module, loss: LossFunction, device: torch.device, precision: str) -> None:
        super().__init__()
        self.model, self._loss = model, loss
        self._autocast = partial(autocast, device, precision)

    def forward(self, step: int, generator: torch.Generator, part: Part) -> tuple[Tensor, Mapping[str, float]]:
        with self._autocast():
            return self._loss(step, generator, part)


def means(rows: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each figure of the last row over all rows."""
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[-1]}


def share_of(size: int, count: int) -> int:
    """Rows of each of `count` equal parts of a batch. Raises ConfigError: it cannot be split evenly."""
    if size % count:
        raise ConfigError(
            f"batch_size {size} cannot be split into {count} equal parts (processes times accumulation); set it to a "
            f"multiple of {count}"
        )
    return size // count


def learning_rate_factor(config: OptimConfig, step: int) -> float:
    """Learning-rate multiplier at `step` (from 0): linear warm-up, then the schedule.

    `inverse` is InverseLR of stable-audio-tools: (1 + step / inverse_gamma) ** -0.5. `step` is PyTorch's
    MultiStepLR with milestones step_from, step_from + step_every, …
    """
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "cosine":
        span = max(1, config.steps - config.warmup_steps)
        progress = min(1.0, max(0, step - config.warmup_steps) / span)
        return warmup * 0.5 * (1.0 + math.cos(math.pi * progress))
    if config.schedule == "inverse":
        return warmup * (1.0 + step / config.inverse_gamma) ** -0.5
    if config.schedule == "step" and step >= config.step_from:
        return warmup * config.step_factor ** (1 + (step - config.step_from) // config.step_every)
    return warmup
