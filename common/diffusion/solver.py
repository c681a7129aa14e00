"""Solver interface and noise draws of the sampling loop, shared by all back ends."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from common.errors import ConfigError


class Noise:
    """Unit normal draws `(B, D, L)`, one generator per clip; the last clip's draws fill up the batch.

    Args:
        shape: `(D, L)`.
    """

    def __init__(self, generators: Sequence[torch.Generator], shape: tuple[int, int], batch_size: int) -> None:
        self._generators, self._shape = generators, shape
        self._rows = [min(i, len(generators) - 1) for i in range(batch_size)]
        # As in the stock pipeline, the Brownian trees are seeded by these generators.
        self.seeded = [generators[row] for row in self._rows]

    def draw(self) -> Tensor:
        """Draw the next noise of each clip."""
        return torch.stack([torch.randn(self._shape, generator=g) for g in self._generators])[self._rows]

    def __call__(self, sigma: Tensor, next_sigma: Tensor) -> Tensor:
        """Draw the noise of one solver step; diffusers' schedulers call it like this."""
        return self.draw()


class Solver(ABC):
    """Integrates from noise to latents in steps; stateful, so each batch needs its own.

    Attributes:
        times: `(K,)`, the network's time input at each step.
    """

    times: Tensor

    @abstractmethod
    def start(self, drawn: Tensor, init: Tensor | None) -> Tensor:
        """Initial latents: unit noise `drawn` `(B, D, L)`, alone or added to `init`."""

    def scale(self, latents: Tensor, t: Tensor) -> Tensor:
        """Scale `latents` to the network's input at `t`."""
        return latents

    @abstractmethod
    def step(self, predicted: Tensor, t: Tensor, latents: Tensor) -> Tensor:
        """Latents after the step at `t`."""


def first_step(times: Tensor, level: float) -> int:
    """Index of the step that begins at time `level` or just below. Raises ConfigError: `level` is not in (0, 1]."""
    if not 0 < level <= 1:
        raise ConfigError(f"init_level is {level}, expected a time in (0, 1]: 1 starts from pure noise")
    below = [i for i, t in enumerate(times.tolist()) if t <= level or math.isclose(t, level)]
    return below[0] if below else len(times) - 1
