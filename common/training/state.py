"""State of a training between two steps, averaged weights among it, and its checkpoint format.

Everything random in a step is seeded by its number, so the number is the state of the data
position and of the random generators.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from common.errors import DataError
from common.storage.checkpoints import Checkpoints
from common.training.engine import Engine
from common.training.sharding import assign, like, local, whole

PROGRESS = "progress.json"
FIELDS = ("done", "best_step", "curve", "window")
"""What it holds of a `State`."""


class Ema:
    """Averages of `parameters`, with a decay that rises to `decay`: min(decay, (1 + step) / (10 + step)).

    With 0 nothing is averaged: `averages` is empty and all methods do nothing.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._parameters, self._decay = parameters, decay
        self.averages: dict[str, Tensor] = {key: p.detach().clone() for key, p in parameters.items()} if decay else {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the averages with the weights after `step` (from 0)."""
        if self.averages:
            decay = min(self._decay, (1 + step) / (10 + step))
            current = [local(p) for p in self._parameters.values()]
            torch._foreach_lerp_([local(value) for value in self.averages.values()], current, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Swap the averages into the model for the block."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the averages and the model's weights."""
        for key, average in self.averages.items():
            current = local(self._parameters[key]).clone()
            local(self._parameters[key]).copy_(local(average))
            local(average).copy_(current)


@dataclass
class State:
    """A training between two steps."""

    engine: Engine
    ema: Ema
    best: dict[str, Tensor] | None = None
    """Weights and buffers of step `best_step`, each process its shard, in main memory; None = not kept."""
    done: int = 0
    best_step: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    window: list[dict[str, float]] = field(default_factory=list)
    """Figures of the steps since the last row."""

    def model(self) -> dict[str, Tensor]:
        """Trained parameters and persistent buffers of the model, by name."""
        lasting = self.engine.model.state_dict().keys()
        buffers = {key: value for key, value in self.engine.model.named_buffers() if key in lasting}
        return {**self.engine.parameters, **buffers}

    def keep_best(self) -> None:
        """Keep the current weights as the best."""
        self.best = {key: local(value).to("cpu", copy=True) for key, value in self.model().items()}
        self.best_step = self.done

    @torch.no_grad()
    def restore_best(self) -> None:
        """Copy the best weights into the model."""
        for key, value in self.model().items():
            local(value).copy_((self.best or {})[key])

    def save(self, checkpoints: Checkpoints) -> None:
        """Store a checkpoint; all processes take part, the first one writes.

        Raises StorageError: the store cannot be written.
        """
        gathered = self._gathered()
        try:
            if self.engine.is_main:
                checkpoints.save(self.done, partial(self._write, gathered))
        finally:
            # Also where nothing can be written: the other processes wait for this one's part of each tensor.
            if self.engine.sharded:
                for _ in gathered:
                    pass

    def load(self, checkpoints: Checkpoints) -> None:
        """Resume from the newest valid checkpoint, if there is one.

        Raises DataError: the checkpoint is of another architecture.
        """
        with checkpoints.latest() if self.engine.is_main else nullcontext() as found:
            folder = found[1] if found else None
            progress = self.engine.share(json.loads((folder / PROGRESS).read_bytes()) if folder else None)
            if progress is None:
                return
            for name in FIELDS:
                setattr(self, name, progress[name])
            self._make_optimizer_state(progress["optimized"])
            for file, tensors in self._tensors().items():
                for name, value in self._saved(folder, file, tensors, checkpoints.uri):
                    assign(tensors[name], value)
                    if file == "best" and self.best is not None:
                        self.best[name] = local(tensors[name]).to("cpu")

    def _tensors(self) -> dict[str, dict[str, Tensor]]:
        """Stored tensors by file and name, in the same order in every process."""
        optimizer = self.engine.optimizer
        model = self.model()
        return {
            "model": model,
            "ema": self.ema.averages,
            "optimizer": {
                f"{key}/{name}": value
                for name, parameter in self.engine.parameters.items()
                for key, value in optimizer.state.get(parameter, {}).items()
            },
            "best": {key: like(model[key], share) for key, share in (self.best or {}).items()},
        }

    def _gathered(self) -> Iterator[tuple[str, str, Tensor]]:
        """Yield file, name and whole value of each stored tensor; all processes must take all."""
        for file, tensors in self._tensors().items():
            for name, value in tensors.items():
                yield file, name, whole(value)

    def _write(self, gathered: Iterator[tuple[str, str, Tensor]], folder: Path) -> None:
        for file, rows in groupby(gathered, key=lambda row: row[0]):
            values = {name: value.cpu().contiguous() for _, name, value in rows}
            try:
                save_file(values, folder / f"{file}.safetensors")
            except SafetensorError as error:
                raise OSError(str(error)) from error
        optimized = [name for name, p in self.engine.parameters.items() if self.engine.optimizer.state.get(p)]
        progress = {name: getattr(self, name) for name in FIELDS} | {"optimized": optimized}
        (folder / PROGRESS).write_text(json.dumps(progress), encoding="utf-8")

    def _make_optimizer_state(self, optimized: list[str]) -> None:
        """Create zero moments for the parameters that had a gradient so far; their values are loaded later."""
        state = {
            index: {"step": torch.tensor(0.0), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            for index, (name, p) in enumerate(self.engine.parameters.items())
            if name in optimized
        }
        self.engine.optimizer.load_state_dict({**self.engine.optimizer.state_dict(), "state": state})

    def _saved(
        self, folder: Path | None, file: str, tensors: Mapping[str, Tensor], uri: str
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the whole tensors of a file one by one, read by the first process and broadcast to all."""
        path = folder / f"{file}.safetensors" if folder else None
        with safe_open(path, "pt") if path and path.is_file() else nullcontext() as opened:
            if path is not None:
                _check(opened, tensors, file, uri)
            for name, target in tensors.items():
                if opened is not None:
                    value = opened.get_tensor(name).to(self.engine.device, target.dtype)
                else:
                    value = torch.empty(target.shape, dtype=target.dtype, device=self.engine.device)
                self.engine.broadcast({name: value})
                yield name, value


def _check(opened: Any, tensors: Mapping[str, Tensor], file: str, uri: str) -> None:
    names = list(opened.keys()) if opened is not None else []
    saved = {name: tuple(opened.get_slice(name).get_shape()) for name in names}
    expected = {name: tuple(value.shape) for name, value in tensors.items()}
    for name in [*expected, *saved]:
        if saved.get(name) != expected.get(name):
            raise DataError(
                f"the checkpoint in {uri} is of another architecture: {file} tensor {name!r} is "
                f"{_shape(saved.get(name))} there and {_shape(expected.get(name))} in this model; remove the "
                "checkpoint to train from the start, or go back to the settings that it was made with"
            )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else f"of shape {shape}"
