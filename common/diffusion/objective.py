"""Training objectives of a diffusion transformer: v on the cosine schedule, or the velocity of a rectified flow.

Stable Audio Open 1.0 has the first (arXiv 2202.00512, 2407.14358), Stable Audio Open Small the second (arXiv
2209.03003, 2505.08175; as in Stability-AI/stable-audio-tools, stable_audio_tools/training/diffusion.py at 50049e3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from common.diffusion.condition import Condition


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


def drop_condition(condition: Condition, null: Condition, probability: float, generator: torch.Generator) -> Condition:
    """Replace each row's condition by `null` with `probability` (classifier-free guidance, arXiv 2207.12598)."""
    return drop_rows(condition, null, torch.rand(condition.cross.shape[0], generator=generator) < probability)


def drop_rows(condition: Condition, null: Condition, drop: Tensor) -> Condition:
    """Replace the condition by `null` in the rows where `drop` `(B,)` is true."""
    where = drop.to(condition.cross.device)[:, None, None]
    return Condition(
        torch.where(where, null.cross, condition.cross), torch.where(where, null.global_, condition.global_)
    )
