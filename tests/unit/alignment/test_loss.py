from __future__ import annotations

import math

import pytest
import torch

from common.diffusion.condition import Condition
from components.align_t2a.loss import PairErrors, crpo_loss, dpo_loss, implicit_accuracy, margin, pair_errors


def errors(winner: list[float], loser: list[float], grad: bool = False) -> PairErrors:
    return PairErrors(torch.tensor(winner, requires_grad=grad), torch.tensor(loser, requires_grad=grad))


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
    swapped = margin(PairErrors(policy.loser, policy.winner), PairErrors(reference.loser, reference.winner))
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

    def error(z: torch.Tensor, noise: torch.Tensor, level: torch.Tensor, condition: Condition) -> torch.Tensor:
        seen.append((z, noise, level, condition))
        return z.mean((1, 2))

    result = pair_errors(error, winner, loser, eps, t, Condition(cross, whole))
    ((z, noise, level, condition),) = seen
    for shared in (noise, level, condition.cross, condition.global_):
        assert torch.equal(shared[:3], shared[3:])
    assert torch.equal(z, torch.cat([winner, loser]))
    assert torch.equal(result.winner, winner.mean((1, 2))) and torch.equal(result.loser, loser.mean((1, 2)))
