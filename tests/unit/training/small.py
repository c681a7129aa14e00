"""A small model with dropout, buffers and draws of its own, trained in a blink."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.config.base import OptimConfig
from common.errors import StorageError
from common.storage import ObjectStore, open_store
from common.storage.checkpoints import Checkpoints
from common.storage.s3_client import S3Error
from common.training import Curve, LossFunction, Part, fit

DATA = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))


def network(width: int = 8, dropout: float = 0.5, norm: bool = True) -> nn.Module:
    torch.manual_seed(3)
    layers = [nn.Linear(4, width), nn.Dropout(dropout), nn.Linear(width, 1)]
    return nn.Sequential(*layers[:1], *([nn.BatchNorm1d(width)] if norm else []), *layers[1:])


def squared_error(model: nn.Module, before: Callable[[int], None] = lambda step: None) -> LossFunction:
    """Draws 8 rows a step; `before` is called first in it."""

    def loss(step: int, generator: torch.Generator, part: Part) -> tuple[Tensor, Mapping[str, float]]:
        with part.waiting.running():
            before(step)
            chosen = torch.randint(0, 64, (8,), generator=generator)[part.rows(8)]
        error = (model(DATA[chosen]) - DATA[chosen].sum(1, keepdim=True)) ** 2
        return error.mean(), {"size": float(len(chosen))}

    return loss


def config(**options: Any) -> OptimConfig:
    values = {"steps": 12, "batch_size": 8, "learning_rate": 0.01, "warmup_steps": 2, "ema_decay": 0.9}
    return OptimConfig(**{**values, "record_every": 5, "checkpoint_every_s": 1e-9, **options})


def checkpoints(folder: Path) -> Checkpoints:
    return Checkpoints(open_store(folder))


class Away(Checkpoints):
    """Checkpoints whose store is away at some steps, before anything is written."""

    def __init__(self, store: ObjectStore, steps: Container[int], error: StorageError | None = None) -> None:
        super().__init__(store)
        self._steps, self._error = steps, error or S3Error("the store is away", "", away=True)

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        if step in self._steps:
            raise self._error
        super().save(step, write)


def train(
    folder: Path | None = None,
    model: nn.Module | None = None,
    before: Callable[[int], None] = lambda step: None,
    loss: LossFunction | None = None,
    optim: dict[str, Any] | None = None,
    kept: Checkpoints | None = None,
    **options: Any,
) -> tuple[nn.Module, Curve]:
    model = model if model is not None else network()
    curve = fit(
        model,
        loss or squared_error(model, before),
        config(**(optim or {})),
        seed=5,
        name="test",
        checkpoints=checkpoints(folder) if folder is not None else kept,
        **options,
    )
    return model, curve


def equal(a: nn.Module, b: nn.Module) -> bool:
    """Parameters and buffers, bit for bit."""
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
