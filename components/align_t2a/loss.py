"""Preference losses of diffusion models, computed from mean squared errors per clip.

Convention: an error is the mean, not the sum, over latent channels and frames; the margin is scaled
by 0.5 * beta. Both as in the official code of arXiv 2410.02056 and of Tango 2 (arXiv 2404.09956).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from common.diffusion.condition import Condition, join


@dataclass(frozen=True)
class PairErrors:
    """Prediction errors of one model on a batch of pairs; each (B,)."""

    winner: Tensor
    loser: Tensor


def margin(policy: PairErrors, reference: PairErrors) -> Tensor:
    """Preference of the policy for the winner, relative to the reference, (B,); 0 where they are equal.

    Positive where the winner's error fell more below the reference's than the loser's did.
    """
    return (reference.winner - reference.loser) - (policy.winner - policy.loser)


def dpo_loss(policy: PairErrors, reference: PairErrors, beta: float) -> Tensor:
    """Diffusion-DPO loss (arXiv 2311.12908): mean over pairs of -log sigmoid(0.5 * beta * margin).

    Returns:
        Scalar; log 2 where policy and reference agree.
    """
    return -F.logsigmoid(0.5 * beta * margin(policy, reference)).mean()


def crpo_loss(policy: PairErrors, reference: PairErrors, beta: float, winner_weight: float) -> Tensor:
    """DPO loss plus the winner's own error (arXiv 2412.21037), which keeps the winner from getting worse.

    The factor 0.5 * beta of `dpo_loss` is kept; `winner_weight` is the paper's lambda.
    """
    return dpo_loss(policy, reference, beta) + winner_weight * policy.winner.mean()


def implicit_accuracy(policy: PairErrors, reference: PairErrors) -> Tensor:
    """Share of pairs with a positive margin; a margin of zero counts half."""
    value = margin(policy, reference)
    return ((value > 0).float() + 0.5 * (value == 0).float()).mean()


ErrorFunction = Callable[[Tensor, Tensor, Tensor, Condition], Tensor]
"""Prediction error of a model: `error(z (B, D, L), eps (B, D, L), t (B,), condition of B rows) -> (B,)`."""


def pair_errors(
    error: ErrorFunction, winner: Tensor, loser: Tensor, eps: Tensor, t: Tensor, condition: Condition
) -> PairErrors:
    """Errors on both clips of each pair, under the same noise, level and condition.

    Args:
        error: called once, on the winners followed by the losers.
        winner: latents (B, D, L).
        loser: latents (B, D, L).
        eps: noise (B, D, L), shared within a pair.
        t: noise levels (B,), shared within a pair.
        condition: B rows, with dropout already applied; shared within a pair.
    """
    pair = join([condition, condition])
    both = error(torch.cat([winner, loser]), torch.cat([eps, eps]), torch.cat([t, t]), pair)
    first, second = both.chunk(2)
    return PairErrors(first, second)
