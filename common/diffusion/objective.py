"""Training objectives of a diffusion transformer, and the interface of the solvers that sample from it.

Stable Audio Open 1.0 learns v on the cosine schedule (arXiv 2202.00512, 2407.14358), Stable Audio Open Small the
velocity of a rectified flow (arXiv 2209.03003, 2505.08175; as in Stability-AI/stable-audio-tools,
stable_audio_tools/training/diffusion.py at 50049e3).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from common.diffusion.text import Condition
from common.errors import ConfigError


class Objective(NamedTuple):
    """The network's input and its target, functions of clean latents and noise `(B, D, L)` and of times `(B,)`."""

    noisy: Callable[[Tensor, Tensor, Tensor], Tensor]
    target: Callable[[Tensor, Tensor, Tensor], Tensor]


def alpha_sigma(t: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and noise amplitude `cos(pi t / 2)`, `sin(pi t / 2)` at time `t` in [0, 1]: 0 = clean, 1 = noise."""
    angle = t * (torch.pi / 2)
    return angle.cos(), angle.sin()


def noisy(z: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """Noised latents `alpha z + sigma eps`."""
    alpha, sigma = alpha_sigma(t[:, None, None])
    return alpha * z + sigma * eps


def v_target(z: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """Target of the network: `alpha eps - sigma z`."""
    alpha, sigma = alpha_sigma(t[:, None, None])
    return alpha * eps - sigma * z


def _flow_noisy(z: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    t = t[:, None, None]
    return (1 - t) * z + t * eps


V = Objective(noisy, v_target)
FLOW = Objective(_flow_noisy, lambda z, eps, t: eps - z)


def draw_times(count: int, generator: torch.Generator, sampling: str = "uniform") -> Tensor:
    """Draw training times `(count,)` in (0, 1).

    `uniform` is stratified over the batch in random order (lower variance than independent draws, like the Sobol
    sequence of stable-audio-tools); `logit_normal` is sigmoid of a standard normal.
    """
    if sampling == "logit_normal":
        return torch.randn(count, generator=generator).sigmoid()
    strata = torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)
    return (strata / count).clamp(1e-4, 1 - 1e-4)


def drop_rows(condition: Condition, null: Condition, drop: Tensor) -> Condition:
    """Replace the condition by `null` where `drop` `(B,)` is true, for classifier-free guidance (arXiv 2207.12598)."""
    where = drop.to(condition.cross.device)[:, None, None]
    return Condition(
        torch.where(where, null.cross, condition.cross), torch.where(where, null.global_, condition.global_)
    )


class Noise:
    """Unit normal draws `(B, D, L)`, one generator per clip; the last clip's draws fill up the batch."""

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
    """Integrates from noise to latents in steps; stateful, so each batch needs its own."""

    times: Tensor
    """`(K,)`, the network's time input at each step."""

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
