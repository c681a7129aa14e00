from __future__ import annotations

import pytest
import torch
from torch import nn

from common.config.base import OptimConfig
from common.training import learning_rate_factor
from common.training.state import Ema


def test_cosine_warms_up_linearly_and_falls_to_zero() -> None:
    cosine = OptimConfig(steps=110, batch_size=1, learning_rate=1, warmup_steps=10)
    assert learning_rate_factor(cosine, 0) == pytest.approx(0.1)
    assert learning_rate_factor(cosine, 10) == pytest.approx(1.0)
    assert learning_rate_factor(cosine, 60) == pytest.approx(0.5)
    assert learning_rate_factor(cosine, 110) == pytest.approx(0.0)


def test_inverse_falls_with_the_root() -> None:
    inverse = OptimConfig(steps=10, batch_size=1, learning_rate=1, schedule="inverse", inverse_gamma=3)
    assert learning_rate_factor(inverse, 9) == pytest.approx(0.5)


def test_constant_stays_after_the_warm_up() -> None:
    constant = OptimConfig(steps=100, batch_size=1, learning_rate=1, schedule="constant", warmup_steps=4)
    factors = [learning_rate_factor(constant, step) for step in (0, 1, 3, 50, 99)]
    assert factors == pytest.approx([0.25, 0.5, 1, 1, 1])


def test_the_average_of_weights_is_its_recursion() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    ema, expected = Ema({"w": weight}, 0.9), 1.0
    for step in range(200):
        weight.data.fill_(float(step % 3))
        ema.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (step % 3)
    assert ema.averages["w"].item() == pytest.approx(expected, rel=1e-5)
    with ema.in_place():
        assert weight.item() == pytest.approx(expected, rel=1e-5)
    assert weight.item() == 199 % 3
