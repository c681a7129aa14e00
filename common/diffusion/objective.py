"""The v-objective of Stable Audio Open on the cosine schedule (arXiv 2202.00512, 2407.14358)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from common.diffusion.backend import Condition, StableAudio


def alpha_sigma(t: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and noise amplitude `cos(pi t / 2)`, `sin(pi t / 2)` at time `t` in [0, 1]: 0 = clean, 1 = noise."""
    angle = t * (torch.pi / 2)
    return angle.cos(), angle.sin()


def noisy(z: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """`alpha z + sigma eps`; latents and noise `(B, D, L)`, time `(B,)`."""
    alpha, sigma = alpha_sigma(t[:, None, None])
    return alpha * z + sigma * eps


def v_target(z: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """What the network predicts: `alpha eps - sigma z`, shape `(B, D, L)`."""
    alpha, sigma = alpha_sigma(t[:, None, None])
    return alpha * eps - sigma * z


def clean(x: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """The latents that a noisy `x` and a prediction `v` at `t` stand for: `alpha x - sigma v`, `(B, D, L)`."""
    alpha, sigma = alpha_sigma(t[:, None, None])
    return alpha * x - sigma * v


def error(backend: StableAudio, z: Tensor, eps: Tensor, t: Tensor, condition: Condition) -> Tensor:
    """Squared error of the network's v, mean over channels and frames: `(B,)`, differentiable."""
    predicted = backend.predict(noisy(z, eps, t), t, condition)
    return (predicted.float() - v_target(z, eps, t)).square().mean(dim=(1, 2))


def draw_times(count: int, generator: torch.Generator, sampling: str = "uniform") -> Tensor:
    """Training times `(count,)` in (0, 1).

    `uniform` is stratified over the batch in random order (lower variance than independent draws, like the Sobol
    sequence of stable-audio-tools); `logit_normal` is sigmoid of a standard normal.
    """
    if sampling == "logit_normal":
        return torch.randn(count, generator=generator).sigmoid()
    strata = torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)
    return (strata / count).clamp(1e-4, 1 - 1e-4)


def drop_condition(condition: Condition, null: Condition, probability: float, generator: torch.Generator) -> Condition:
    """Replace the condition of each row by `null` with `probability` (classifier-free guidance, arXiv 2207.12598)."""
    drop = torch.rand(condition.cross.shape[0], generator=generator).to(condition.cross.device) < probability
    keep = drop[:, None, None]
    return type(condition)(
        torch.where(keep, null.cross, condition.cross), torch.where(keep, null.global_, condition.global_)
    )
