"""A batch's way from noise to latents, as each back end walks it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from common.errors import ConfigError


class Noise:
    """Unit normal draws `(B, D, L)`, each clip's from its own generator; the last clip's fill up the batch.

    Args:
        generators: CPU generators, one a clip.
        shape: `(D, L)`.
        batch_size: B.
    """

    def __init__(self, generators: Sequence[torch.Generator], shape: tuple[int, int], batch_size: int) -> None:
        self._generators, self._shape = generators, shape
        self._rows = [min(i, len(generators) - 1) for i in range(batch_size)]
        # The seeds as they stand are what the stock pipeline gives to its Brownian trees.
        self.seeded = [generators[row] for row in self._rows]

    def draw(self) -> Tensor:
        """The next draw of each clip."""
        return torch.stack([torch.randn(self._shape, generator=g) for g in self._generators])[self._rows]

    def __call__(self, sigma: Tensor, next_sigma: Tensor) -> Tensor:
        """For one solver step, as diffusers' schedulers call it."""
        return self.draw()


class Solver(Protocol):
    """Goes from noise to latents in steps; holds state, so each batch gets its own.

    Attributes:
        times: `(K,)`, what the network is told, step by step.
    """

    times: Tensor

    def start(self, drawn: Tensor, init: Tensor | None) -> Tensor:
        """What the first step begins with: unit noise `drawn` `(B, D, L)`, alone or added to `init`."""
        ...

    def scale(self, latents: Tensor, t: Tensor) -> Tensor:
        """What the network sees of `latents` at `t`."""
        ...

    def step(self, predicted: Tensor, t: Tensor, latents: Tensor) -> Tensor:
        """The latents after the step at `t`."""
        ...


def first_step(times: Tensor, level: float) -> int:
    """Number of the step that begins at time `level` or just below.

    Raises:
        ConfigError: `level` is no time of noise.
    """
    if not 0 < level <= 1:
        raise ConfigError(f"init_level is {level}, expected a time in (0, 1]: 1 starts from pure noise")
    below = [i for i, t in enumerate(times.tolist()) if t <= level or math.isclose(t, level)]
    return below[0] if below else len(times) - 1
