"""One training step of an alignment: its draws, its loss and its figures."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from common.config.t2a import AlignT2AConfig
from common.diffusion.backend import error, residual
from common.diffusion.objective import draw_times, drop_rows
from common.training import LossFunction, Part
from components.align_t2a.adapter import Policy
from components.align_t2a.encoding import Bucket, EncodedPairs
from components.align_t2a.loss import PairErrors, implicit_accuracy, pair_errors, preference_loss

Figures = dict[str, float]


def step_loss(
    policy: Policy, pairs: EncodedPairs, settings: AlignT2AConfig, alignment: Literal["dpo", "erm"]
) -> LossFunction:
    """Loss function of a training step; it draws its own batch, noise, levels and dropped conditions."""
    weights = torch.tensor([float(len(bucket.losers)) for bucket in pairs.buckets])

    def loss(step: int, generator: torch.Generator, part: Part) -> tuple[Tensor, Figures]:
        bucket = pairs.buckets[int(torch.multinomial(weights, 1, generator=generator))]
        rows = draw_rows(len(bucket.losers), settings.optim.batch_size, generator)
        return batch_loss(policy, bucket, rows, settings, alignment, generator, part)

    return loss


def draw_rows(count: int, batch_size: int, generator: torch.Generator) -> Tensor:
    """`batch_size` random row numbers below `count`; no row repeats before all have occurred."""
    rounds = [torch.randperm(count, generator=generator) for _ in range(-(-batch_size // count))]
    return torch.cat(rounds)[:batch_size]


def batch_loss(
    policy: Policy,
    bucket: Bucket,
    rows: Tensor,
    settings: AlignT2AConfig,
    alignment: Literal["dpo", "erm"],
    generator: torch.Generator,
    part: Part,
) -> tuple[Tensor, Figures]:
    """Loss and figures of one `part` of a batch, the pairs `rows` of a bucket.

    Every draw covers the whole batch, so the result does not depend on how the batch is split.
    """
    device = policy.backend.device
    eps = torch.randn((len(rows), *bucket.losers.shape[1:]), generator=generator)
    t = draw_times(len(rows), generator, settings.timestep_sampling)
    captions = bucket.caption_of[rows].to(bucket.condition.cross.device)
    drop = torch.rand(len(rows), generator=generator) < settings.condition_dropout
    condition = drop_rows(bucket.condition[captions], bucket.null[captions], drop)
    own = part.rows(len(rows))
    rows, condition, eps, t = rows[own], condition[own], eps[own].to(device), t[own].to(device)
    winner = bucket.winners[bucket.winner_of[rows]].to(device)
    if alignment == "erm":
        with torch.no_grad(), policy.reference() as reference:
            before = error(reference, winner, eps, t, condition)
        now = error(policy.backend, winner, eps, t, condition)
        return now.mean(), {"winner_error": _mean(now), "d_winner": _mean(now - before)}
    loser = bucket.losers[rows].to(device)
    with torch.no_grad(), policy.reference() as reference:
        of_reference = pair_errors(partial(residual, reference), winner, loser, eps, t, condition)
    of_policy = pair_errors(partial(residual, policy.backend), winner, loser, eps, t, condition)
    return preference_loss(of_policy, of_reference, settings), _figures(of_policy, of_reference)


def _figures(policy: PairErrors, reference: PairErrors) -> Figures:
    return {
        "winner_error": _mean(policy.winner),
        "loser_error": _mean(policy.loser),
        "d_winner": _mean(policy.winner - reference.winner),
        "d_loser": _mean(policy.loser - reference.loser),
        "implicit_accuracy": _mean(implicit_accuracy(policy, reference)),
    }


def _mean(value: Tensor) -> float:
    return float(value.detach().mean())
