from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from common.config.base import OptimConfig
from common.errors import DataError
from common.training import fit, learning_rate_factor

DATA = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))


def train(
    steps: int = 12, stop_at: int | None = None, folder: Path | None = None, **options: Any
) -> tuple[nn.Module, list[dict[str, float]]]:
    model = network()

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        if step == stop_at:
            raise KeyboardInterrupt
        batch = DATA[torch.randint(0, 64, (8,), generator=generator)]
        return ((model(batch) - batch.sum(1, keepdim=True)) ** 2).mean(), {"size": float(len(batch))}

    config = OptimConfig(
        steps=steps,
        batch_size=8,
        learning_rate=0.01,
        warmup_steps=2,
        ema_decay=0.9,
        record_every=2,
        **{"checkpoint_every_s": 1e-9, **options},
    )
    curve = fit(model, loss, config, seed=5, name="test", checkpoint_dir=folder)
    return model, curve


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_two_runs_are_equal_bit_for_bit() -> None:
    (first, curve), (second, again) = train(), train()
    assert equal(first, second)
    assert curve == again


@pytest.mark.parametrize("stop_at", [1, 5, 6, 11])
def test_a_resumed_run_equals_the_unbroken_one_bit_for_bit(tmp_path: Path, stop_at: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(stop_at=stop_at, folder=tmp_path)
    resumed, curve = train(folder=tmp_path)
    unbroken, expected = train()
    assert equal(resumed, unbroken)
    assert curve == expected


def test_the_last_two_checkpoints_are_kept(tmp_path: Path) -> None:
    train(folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-8"]


def test_a_loss_that_is_not_finite_names_the_step() -> None:
    model = network()
    config = OptimConfig(steps=3, batch_size=1, learning_rate=0.1)
    with pytest.raises(DataError, match="step 1"):
        fit(model, lambda step, _: (model(DATA).sum() * (math.nan if step else 1.0), {}), config, seed=0, name="t")


def test_schedules_have_their_closed_forms() -> None:
    cosine = OptimConfig(steps=110, batch_size=1, learning_rate=1, warmup_steps=10)
    assert learning_rate_factor(cosine, 0) == pytest.approx(0.1)
    assert learning_rate_factor(cosine, 10) == pytest.approx(1.0)
    assert learning_rate_factor(cosine, 60) == pytest.approx(0.5)
    assert learning_rate_factor(cosine, 110) == pytest.approx(0.0)
    inverse = OptimConfig(steps=10, batch_size=1, learning_rate=1, schedule="inverse", inverse_gamma=3)
    assert learning_rate_factor(inverse, 9) == pytest.approx(0.5)


def test_frozen_parameters_stay_as_they_are() -> None:
    model = network()
    frozen = next(model.parameters())
    frozen.requires_grad_(False)
    before = frozen.clone()
    config = OptimConfig(steps=3, batch_size=1, learning_rate=0.1)
    fit(model, lambda *_: (model(DATA).pow(2).mean(), {}), config, seed=0, name="t")
    assert torch.equal(frozen, before)
