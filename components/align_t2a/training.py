"""Alignment of one model with one gold set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from common.config.t2a import AlignT2AConfig
from common.diffusion.objective import draw_times, drop_condition, error
from common.log import event, get_logger
from common.training import LossFunction, Part, fit
from components.align_t2a.adapter import Policy
from components.align_t2a.encoding import Bucket, EncodedPairs
from components.align_t2a.loss import PairErrors, crpo_loss, dpo_loss, implicit_accuracy, pair_errors
from components.align_t2a.selection import best_step, stop_reason

if TYPE_CHECKING:
    from common.checkpoints import Checkpoints

Figures = dict[str, float]
log = get_logger("align_t2a")


@dataclass(frozen=True)
class Aligned:
    """What happened in an alignment.

    Attributes:
        curve: rows of `step`, `loss`, `winner_error` and `d_winner` (its change against the reference);
            with `dpo` also `loser_error`, `d_loser` and `implicit_accuracy`; at probes their figures.
        during: figures with their `step`, from the unaligned model (0) on.
        best_step: the step whose weights the model has now.
        stopped: the figure that ended it early, or an empty string.
    """

    curve: list[Figures]
    during: list[Figures]
    best_step: int
    stopped: str


def align(
    policy: Policy,
    pairs: EncodedPairs,
    settings: AlignT2AConfig,
    alignment: Literal["dpo", "erm"],
    before: Mapping[str, float],
    probe: Callable[[], Mapping[str, float]],
    *,
    seed: int,
    name: str,
    checkpoints: Checkpoints | None = None,
) -> Aligned:
    """Train `policy` on the pairs, keep its best state, and merge its adapters.

    Args:
        policy: trained in place.
        pairs: latents and conditions.
        settings: loss, optimiser, rules of selection and the like.
        alignment: `dpo` takes the preference loss of `settings`; `erm` is plain fine-tuning, the
            winners' error alone, for the same number of steps.
        before: figures of the unaligned model.
        probe: measures the policy as it stands, every `probe_every` steps.
        seed: enters every draw.
        name: for log lines.
        checkpoints: where unfinished work is kept, the best state among it.
    """
    first = {"step": 0.0, **before}

    def probes(curve: Sequence[Mapping[str, float]]) -> list[Figures]:
        return [first, *({key: row[key] for key in first} for row in curve if first.keys() <= row.keys())]

    curve = fit(
        policy.trained,
        step_loss(policy, pairs, settings, alignment),
        settings.optim.model_copy(update={"evaluate_every": settings.probe_every}),
        seed=seed,
        name=name,
        checkpoints=checkpoints,
        evaluate=lambda done: probe(),
        best=lambda curve: best_step(probes(curve), settings),
        stop=lambda curve: bool(stop_reason(probes(curve), settings)),
    )
    policy.merge()
    seen = probes(curve)
    result = Aligned(curve, seen, best_step(seen, settings), stop_reason(seen, settings))
    last = int(curve[-1]["step"])
    event(log, "aligned_state", name=name, kept_step=result.best_step, last_step=last, stopped_by=result.stopped or "-")
    return result


def step_loss(
    policy: Policy, pairs: EncodedPairs, settings: AlignT2AConfig, alignment: Literal["dpo", "erm"]
) -> LossFunction:
    """The loss of a training step, which draws its own batch, noise, levels and dropped conditions."""
    weights = torch.tensor([float(len(bucket.losers)) for bucket in pairs.buckets])

    def loss(step: int, generator: torch.Generator, part: Part) -> tuple[Tensor, Figures]:
        bucket = pairs.buckets[int(torch.multinomial(weights, 1, generator=generator))]
        rows = draw_rows(len(bucket.losers), settings.optim.batch_size, generator)
        return batch_loss(policy, bucket, rows, settings, alignment, generator, part)

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
    part: Part,
) -> tuple[Tensor, Figures]:
    """Loss and figures of `part` of the pairs `rows` of a bucket; see `align`.

    All draws are for the whole batch, so that they do not depend on how it is split.
    """
    device = policy.backend.device
    eps = torch.randn((len(rows), *bucket.losers.shape[1:]), generator=generator)
    t = draw_times(len(rows), generator, settings.timestep_sampling)
    captions = bucket.caption_of[rows].to(bucket.condition.cross.device)
    condition = drop_condition(bucket.condition[captions], bucket.null[captions], settings.condition_dropout, generator)
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
