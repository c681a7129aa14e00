"""Alignment of one model with one gold set."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from common.config.t2a import AlignT2AConfig
from common.diffusion.objective import draw_times, drop_condition, error
from common.training import LossFunction, fit
from components.align_t2a.adapter import Policy
from components.align_t2a.encoding import Bucket, EncodedPairs
from components.align_t2a.loss import PairErrors, crpo_loss, dpo_loss, implicit_accuracy, pair_errors

Figures = dict[str, float]


def align(
    policy: Policy,
    pairs: EncodedPairs,
    settings: AlignT2AConfig,
    alignment: Literal["dpo", "erm"],
    *,
    seed: int,
    name: str,
    checkpoint_dir: Path | None = None,
) -> list[Figures]:
    """Train `policy` on the pairs; afterwards its adapters are merged.

    Args:
        policy: trained in place.
        pairs: latents and conditions.
        settings: loss, optimiser and the like.
        alignment: `dpo` takes the preference loss of `settings`; `erm` is plain fine-tuning, the
            winners' error alone, for the same number of steps.
        seed: enters every draw.
        name: for log lines.
        checkpoint_dir: where unfinished work is kept.

    Returns:
        The curve. Rows hold `loss`, `winner_error` and `d_winner` (its change against the reference);
        with `dpo` also `loser_error`, `d_loser` and `implicit_accuracy`.
    """
    curve = fit(
        policy.trained,
        step_loss(policy, pairs, settings, alignment),
        settings.optim,
        seed=seed,
        name=name,
        checkpoint_dir=checkpoint_dir,
    )
    policy.merge()
    return curve


def step_loss(
    policy: Policy, pairs: EncodedPairs, settings: AlignT2AConfig, alignment: Literal["dpo", "erm"]
) -> LossFunction:
    """The loss of a training step, which draws its own batch, noise, levels and dropped conditions."""
    weights = torch.tensor([float(len(bucket.losers)) for bucket in pairs.buckets])

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, Figures]:
        bucket = pairs.buckets[int(torch.multinomial(weights, 1, generator=generator))]
        rows = draw_rows(len(bucket.losers), settings.optim.batch_size, generator)
        return batch_loss(policy, bucket, rows, settings, alignment, generator)

    return loss


def draw_rows(count: int, batch_size: int, generator: torch.Generator) -> Tensor:
    """`batch_size` row numbers below `count`, each once before any comes twice."""
    rounds = [torch.randperm(count, generator=generator) for _ in range(-(-batch_size // count))]
    return torch.cat(rounds)[:batch_size]


def batch_loss(
    policy: Policy,
    bucket: Bucket,
    rows: Tensor,
    settings: AlignT2AConfig,
    alignment: Literal["dpo", "erm"],
    generator: torch.Generator,
) -> tuple[Tensor, Figures]:
    """Loss and figures of the pairs `rows` of a bucket; see `align`."""
    device = policy.backend.device
    winner, loser = bucket.winners[bucket.winner_of[rows]].to(device), bucket.losers[rows].to(device)
    eps = torch.randn(winner.shape, generator=generator).to(device)
    t = draw_times(len(rows), generator, settings.timestep_sampling).to(device)
    captions = bucket.caption_of[rows].to(device)
    condition = drop_condition(bucket.condition[captions], bucket.null[captions], settings.condition_dropout, generator)
    if alignment == "erm":
        with torch.no_grad(), policy.reference() as reference:
            before = error(reference, winner, eps, t, condition)
        now = error(policy.backend, winner, eps, t, condition)
        return now.mean(), {"winner_error": _mean(now), "d_winner": _mean(now - before)}
    with torch.no_grad(), policy.reference() as reference:
        of_reference = pair_errors(partial(error, reference), winner, loser, eps, t, condition)
    of_policy = pair_errors(partial(error, policy.backend), winner, loser, eps, t, condition)
    return _preference_loss(of_policy, of_reference, settings), _figures(of_policy, of_reference)


def _preference_loss(policy: PairErrors, reference: PairErrors, settings: AlignT2AConfig) -> Tensor:
    if settings.preference_loss == "crpo":
        return crpo_loss(policy, reference, settings.beta, settings.winner_weight)
    return dpo_loss(policy, reference, settings.beta)


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
