"""Training objectives of a diffusion transformer: v on the cosine schedule, or the velocity of a rectified flow.

Stable Audio Open 1.0 has the first (arXiv 2202.00512, 2407.14358), Stable Audio Open Small the second (arXiv
2209.03003, 2505.08175; as in Stability-AI/stable-audio-tools, stable_audio_tools/training/diffusion.py at 50049e3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from common.diffusion.condition import Condition


def alpha_sigma(t: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and noise amplitude `cos(pi t / 2)`, `sin(pi t / 2)` at time `t` in [0, 1]: 0 = clean, 1 = noise."""
    angle = t * (torch.pi / 2)
    return angle.cos(), angle.sin()


def noisy(z: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """Noised latents `alpha z + sigma eps`; latents and noise `(B, D, L)`, time `(B,)`."""
    alpha, sigma = alpha_sigma(t[:, None, None])
    return alpha * z + sigma * eps


def v_target(z: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """Target of the network: `alpha eps - sigma z`, shape `(B, D, L)`."""
    alpha, sigma = alpha_sigma(t[:, None, None])
    return alpha * eps - sigma * z


def clean(x: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """Clean latents implied by a noisy `x` and a prediction `v` at `t`: `alpha x - sigma v`, `(B, D, L)`."""
    alpha, sigma = alpha_sigma(t[:, None, None])
    return alpha * x - sigma * v


@dataclass(frozen=True)
class Objective:
    """Noising and prediction target; all functions of latents or noise `(B, D, L)` and times `(B,)`.

    Attributes:
        noisy: `(z, eps, t)` to the network's input.
        target: `(z, eps, t)` to the network's target.
        clean: `(x, predicted, t)` to the clean latents implied by a noisy `x` and a prediction.
    """

    noisy: Callable[[Tensor, Tensor, Tensor], Tensor]
    target: Callable[[Tensor, Tensor, Tensor], Tensor]
    clean: Callable[[Tensor, Tensor, Tensor], Tensor]


V = Objective(noisy, v_target, clean)


def flow_noisy(z: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """Noised latents `(1 - t) z + t eps`."""
    t = t[:, None, None]
    return (1 - t) * z + t * eps


def flow_target(z: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """Velocity `eps - z` of the straight path from clean to noise."""
    return eps - z


def flow_clean(x: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
    """Clean latents `x - t velocity`."""
    return x - t[:, None, None] * velocity


FLOW = Objective(flow_noisy, flow_target, flow_clean)


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
    return type(condition)(
        torch.where(where, null.cross, condition.cross), torch.where(where, null.global_, condition.global_)
    )
