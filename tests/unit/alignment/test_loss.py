from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch

from common.diffusion.text import Condition
from components.align_t2a.loss import (
    LEAST_UTILITY,
    PairErrors,
    crpo_loss,
    dpo_loss,
    implicit_accuracy,
    linear_loss,
    loser_share,
    margin,
    pair_errors,
    sdpo_loss,
)


def errors(winner: list[float], loser: list[float], grad: bool = False) -> PairErrors:
    first, second = (torch.tensor(values, requires_grad=grad) for values in (winner, loser))
    return PairErrors(first, second, torch.zeros(len(winner)))


REFERENCE = errors([1.0, 0.7], [0.4, 1.1])


@pytest.mark.parametrize("beta", [1.0, 50.0, 2000.0])
def test_loss_is_log_2_when_policy_equals_reference(beta: float) -> None:
    assert dpo_loss(REFERENCE, REFERENCE, beta).item() == pytest.approx(math.log(2))
    assert implicit_accuracy(REFERENCE, REFERENCE).item() == 0.5


def test_gradient_pulls_the_winner_error_down_and_pushes_the_loser_error_up() -> None:
    policy = errors([1.0, 0.7], [0.4, 1.1], grad=True)
    dpo_loss(policy, REFERENCE, 50.0).backward()
    assert policy.winner.grad is not None and policy.loser.grad is not None
    assert (policy.winner.grad > 0).all()
    assert (policy.loser.grad < 0).all()
    # At equality each error has the gradient beta / 4 over the number of pairs.
    assert torch.allclose(policy.winner.grad, torch.full((2,), 50.0 / 4 / 2))


def test_swapping_the_pair_flips_the_margin() -> None:
    policy, reference = errors([0.9, 0.5], [0.4, 1.4]), REFERENCE
    swapped = margin(*(PairErrors(model.loser, model.winner, model.overlap) for model in (policy, reference)))
    assert torch.equal(swapped, -margin(policy, reference))
    assert (margin(policy, reference) > 0).all()


def test_loss_is_the_mean_of_logsigmoids_not_the_logsigmoid_of_the_mean() -> None:
    # Margins of 0.1 and -0.3 at beta 20: arguments 1 and -3.
    policy, reference = errors([0.9, 1.3], [1.0, 1.0]), errors([1.0, 1.0], [1.0, 1.0])
    mean_of = (math.log1p(math.exp(-1)) + math.log1p(math.exp(3))) / 2
    of_mean = math.log1p(math.exp(1))
    assert dpo_loss(policy, reference, 20.0).item() == pytest.approx(mean_of, rel=1e-5)
    assert abs(mean_of - of_mean) > 0.3


def test_crpo_adds_the_weighted_mean_error_of_the_winners() -> None:
    policy = errors([0.9, 1.3], [1.0, 1.0])
    difference = crpo_loss(policy, REFERENCE, 20.0, 0.5) - dpo_loss(policy, REFERENCE, 20.0)
    assert difference.item() == pytest.approx(0.5 * (0.9 + 1.3) / 2, rel=1e-5)


def test_noise_level_and_dropped_condition_are_identical_within_a_pair() -> None:
    generator = torch.Generator().manual_seed(0)
    winner, loser, eps, cross, whole = (torch.randn(3, 2, 4, generator=generator) for _ in range(5))
    t = torch.rand(3, generator=generator)
    seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, Condition]] = []

    def residual(z: torch.Tensor, noise: torch.Tensor, level: torch.Tensor, condition: Condition) -> torch.Tensor:
        seen.append((z, noise, level, condition))
        return z

    result = pair_errors(residual, winner, loser, eps, t, Condition(cross, whole))
    ((z, noise, level, condition),) = seen
    for shared in (noise, level, condition.cross, condition.global_):
        assert torch.equal(shared[:3], shared[3:])
    assert torch.equal(z, torch.cat([winner, loser]))
    assert torch.equal(result.winner, winner.square().mean((1, 2)))
    assert torch.equal(result.loser, loser.square().mean((1, 2)))
    assert torch.equal(result.overlap, (winner * loser).mean((1, 2)))


TARGETS = (
    torch.tensor([[[1.0, 0.0]], [[-2.0, 0.5]], [[0.0, 3.0]]]),
    torch.tensor([[[5.0, 0.4]], [[-1.0, -9.0]], [[1.0, -1.0]]]),
)
"""Of winners and losers, (3, 1, 2). Seen from zero the first loser lies behind its winner: a step away from it leads away
from the winner too. The other losers lie elsewhere."""


def step_of(loss: Callable[[PairErrors, PairErrors], torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Winners' errors before and after a small step of a model whose predictions are its weights."""

    def measured(weights: torch.Tensor) -> PairErrors:
        return pair_errors(lambda z, *_: torch.cat([weights, weights]) - z, *TARGETS, zeros, zeros, NO_CONDITION)

    zeros = torch.zeros_like(TARGETS[0])
    weights = zeros.clone().requires_grad_()
    before = measured(weights)
    (gradient,) = torch.autograd.grad(loss(before, measured(zeros)), weights)
    return before.winner.detach(), measured((weights - 1e-4 * gradient).detach()).winner


NO_CONDITION = Condition(torch.zeros(3, 1, 1), torch.zeros(3, 1, 1))


def test_a_step_of_dpo_can_raise_the_winners_error_and_one_of_sdpo_cannot() -> None:
    before, after = step_of(lambda policy, reference: dpo_loss(policy, reference, 1.0))
    assert (after > before + 1e-5).tolist() == [True, False, False]
    descents = []
    for winner_margin in (0.0, 0.5, 0.9):
        before, after = step_of(partial(sdpo_loss, beta=1.0, winner_margin=winner_margin))
        assert (after <= before + 1e-7).all()
        descents.append(before - after)
    assert descents[0][0] == pytest.approx(0, abs=1e-7)
    assert descents[1][0] > 1e-6 and descents[2][0] / descents[1][0] == pytest.approx(0.9 / 0.5, rel=0.02)


def test_sdpo_keeps_the_whole_loser_where_it_does_not_pull_at_the_winner() -> None:
    policy = PairErrors(*(torch.tensor(values) for values in ([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [-0.5, 0.25, 1.25])))
    assert torch.allclose(loser_share(policy, 0.0), torch.tensor([1.0, 1.0, 0.8]))
    assert torch.allclose(loser_share(policy, 0.9), torch.tensor([1.0, 0.4, 0.08]))


def test_linear_goes_on_learning_at_a_margin_where_dpo_has_stopped() -> None:
    gradients = {}
    for name, loss in (("dpo", dpo_loss), ("linear", linear_loss)):
        for case, winner in (("equal", 1.0), ("far", 0.2)):
            policy = errors([winner], [1.0], grad=True)
            loss(policy, errors([1.0], [1.0]), 200.0).backward()
            assert policy.winner.grad is not None and policy.loser.grad is not None
            assert policy.winner.grad == -policy.loser.grad
            gradients[name, case] = policy.winner.grad.item()
    assert gradients["linear", "equal"] == pytest.approx(gradients["dpo", "equal"]) == pytest.approx(50.0)
    assert gradients["dpo", "far"] < 1e-20
    assert gradients["linear", "far"] == pytest.approx(100.0 * LEAST_UTILITY)
