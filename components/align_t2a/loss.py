"""Preference losses of diffusion models, computed from mean squared errors per clip.

Beside DPO: with the winner's own error (`crpo`), with a loser that cannot push the winner away (`sdpo`), and without
a saturating sigmoid (`linear`). All serve diffusion and flow matching, whose errors they take as they are.

Convention: an error is the mean, not the sum, over latent channels and frames; the margin is scaled
by 0.5 * beta. Both as in the official code of arXiv 2410.02056 and of Tango 2 (arXiv 2404.09956).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from common.config.t2a import AlignT2AConfig
from common.diffusion.text import Condition, join

LEAST_UTILITY = 0.01
"""Of `linear_loss`; as the paper's eta."""


@dataclass(frozen=True)
class PairErrors:
    """Prediction errors of one model on a batch of pairs; each (B,).

    Attributes:
        overlap: mean product of the two residuals, prediction less target; without a gradient. It is positive where
            raising the loser's error raises the winner's too.
    """

    winner: Tensor
    loser: Tensor
    overlap: Tensor


def preference_loss(policy: PairErrors, reference: PairErrors, settings: AlignT2AConfig) -> Tensor:
    """The loss that `settings.preference_loss` names."""
    match settings.preference_loss:
        case "crpo":
            return crpo_loss(policy, reference, settings.beta, settings.winner_weight)
        case "sdpo":
            return sdpo_loss(policy, reference, settings.beta, settings.winner_margin)
        case "linear":
            return linear_loss(policy, reference, settings.beta)
        case _:
            return dpo_loss(policy, reference, settings.beta)


def margin(policy: PairErrors, reference: PairErrors) -> Tensor:
    """Preference of the policy for the winner, relative to the reference, (B,); 0 where they are equal.

    Positive where the winner's error fell more below the reference's than the loser's did.
    """
    return (reference.winner - reference.loser) - (policy.winner - policy.loser)


def dpo_loss(policy: PairErrors, reference: PairErrors, beta: float) -> Tensor:
    """Diffusion-DPO loss (arXiv 2311.12908): mean over pairs of -log sigmoid(0.5 * beta * margin).

    Returns Scalar; log 2 where policy and reference agree.
    """
    return -F.logsigmoid(0.5 * beta * margin(policy, reference)).mean()


def crpo_loss(policy: PairErrors, reference: PairErrors, beta: float, winner_weight: float) -> Tensor:
    """DPO loss plus the winner's own error (arXiv 2412.21037), which keeps the winner from getting worse.

    The factor 0.5 * beta of `dpo_loss` is kept; `winner_weight` is the paper's lambda.
    """
    return dpo_loss(policy, reference, beta) + winner_weight * policy.winner.mean()


def sdpo_loss(policy: PairErrors, reference: PairErrors, beta: float, winner_margin: float) -> Tensor:
    """DPO loss whose gradient on the loser is scaled so that the winner's error does not rise (arXiv 2511.03317).

    To first order and in the space of predictions, a step then lowers the winner's error by at least the share
    `winner_margin` (the paper's mu) of what a step on the winner alone would. The value is that of `dpo_loss`.
    """
    fixed = policy.loser.detach()
    loser = fixed + loser_share(policy, winner_margin) * (policy.loser - fixed)
    return dpo_loss(PairErrors(policy.winner, loser, policy.overlap), reference, beta)


def loser_share(policy: PairErrors, winner_margin: float) -> Tensor:
    """Share of the loser's gradient that a pair keeps, (B,) in [0, 1]; without a gradient.

    It is (1 - `winner_margin`) * |r_w|² / (r_w · r_l) for the residuals of winner and loser, and 1 where they do not
    point the same way.
    """
    allowed = (1 - winner_margin) * policy.winner.detach() / policy.overlap.clamp_min(1e-12)
    return torch.where(policy.overlap > 0, allowed, 1.0).clamp(0, 1)


def linear_loss(policy: PairErrors, reference: PairErrors, beta: float) -> Tensor:
    """Difference of the errors, weighted by a utility linear in the margin (Linear-DPO, arXiv 2605.21123).

    The utility takes the place of the sigmoid in DPO's gradient: 0.5 where policy and reference agree, falling by 0.2
    for each unit of 0.5 * beta * margin, and cut off at `LEAST_UTILITY` from 0 and 1; so a large margin does not end
    learning. At equality the gradient is that of `dpo_loss`. Our reference is the unaligned model; the paper's is a
    moving average of the policy with decay 0.995, which a hundred steps hardly move.
    """
    scale = 0.5 * beta
    utility = (0.5 - 0.2 * scale * margin(policy, reference).detach()).clamp(LEAST_UTILITY, 1 - LEAST_UTILITY)
    return scale * (utility * (policy.winner - policy.loser)).mean()


def implicit_accuracy(policy: PairErrors, reference: PairErrors) -> Tensor:
    """Share of pairs with a positive margin; a margin of zero counts half."""
    value = margin(policy, reference)
    return ((value > 0).float() + 0.5 * (value == 0).float()).mean()


ResidualFunction = Callable[[Tensor, Tensor, Tensor, Condition], Tensor]
"""Prediction less target: `residual(z (B, D, L), eps (B, D, L), t (B,), condition of B rows) -> (B, D, L)`."""


def pair_errors(
    residual: ResidualFunction, winner: Tensor, loser: Tensor, eps: Tensor, t: Tensor, condition: Condition
) -> PairErrors:
    """Errors on both clips of each pair, under the same noise, level and condition.

    Args:
        residual: called once, on the winners followed by the losers; both are latents (B, D, L).
        eps: noise (B, D, L), shared within a pair, as are noise levels `t` (B,) and `condition`.
    """
    pair = join([condition, condition])
    both = residual(torch.cat([winner, loser]), torch.cat([eps, eps]), torch.cat([t, t]), pair)
    first, second = both.square().mean(dim=(1, 2)).chunk(2)
    of_winner, of_loser = both.detach().chunk(2)
    return PairErrors(first, second, (of_winner * of_loser).mean(dim=(1, 2)))
