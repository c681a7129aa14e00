"""Published trainings in epochs, and how their learning rates go."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from common.config.base import OptimConfig
from common.config.run import load_preset
from common.config.train_classifier import RECIPES, TrainClassifierConfig
from common.training import learning_rate_factor


def test_the_papers_recipe_is_fifty_epochs_at_a_constant_rate() -> None:
    optim = TrainClassifierConfig(recipe="paper").optim_for(clips=1500, steps=7)
    assert (optim.batch_size, optim.learning_rate, optim.steps) == (24, 1e-4, 50 * 63)
    assert {learning_rate_factor(optim, step) for step in (0, 1000, optim.steps - 1)} == {1.0}
    assert optim.evaluate_every == optim.record_every == 63


def test_the_official_rates_are_those_of_pytorchs_scheduler() -> None:
    optim = TrainClassifierConfig(recipe="official").optim_for(clips=480, steps=7)
    assert (optim.batch_size, optim.learning_rate, optim.betas, optim.steps) == (48, 1e-5, (0.95, 0.999), 500)
    parameter = torch.nn.Parameter(torch.zeros(1))
    reference = torch.optim.Adam([parameter], lr=1e-5)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(reference, list(range(5, 1000)), gamma=0.85)
    for epoch in range(50):
        for step in (10 * epoch, 10 * epoch + 9):
            made = optim.learning_rate * learning_rate_factor(optim, step)
            assert made == pytest.approx(reference.param_groups[0]["lr"], rel=1e-9)
        reference.step()
        scheduler.step()


def test_without_a_recipe_steps_are_those_of_the_settings() -> None:
    config = TrainClassifierConfig()
    assert config.optim_for(clips=10**6, steps=config.optim.steps) == config.optim
    assert config.optim_for(clips=10, steps=6000).steps == 6000


def test_a_recipe_keeps_what_it_leaves_open() -> None:
    base = OptimConfig(steps=100, batch_size=8, learning_rate=1.0, precision="bf16", checkpoint_every_s=7)
    for recipe in RECIPES.values():
        made = OptimConfig.model_validate(recipe.optim(100, base).model_dump())
        assert (made.precision, made.checkpoint_every_s) == ("bf16", 7)


def test_recipes_are_named_in_the_configuration() -> None:
    config = load_preset("tiny", "train_classifier.recipe=official train_classifier.mixup_alpha=0.3")
    assert config.train_classifier.recipe == "official"
    with pytest.raises(ValidationError, match="batch of 48 cannot be divided"):
        TrainClassifierConfig(recipe="official", synthetic_fraction=0.001)


def test_options_that_are_off_by_default_are_switched_on_by_overrides() -> None:
    config = load_preset("paper", "train_classifier.contrastive={} train_classifier.select_by=map")
    contrastive = config.train_classifier.contrastive
    assert contrastive is not None
    assert (contrastive.views, contrastive.temperature, contrastive.dimensions) == (4, 0.1, 256)
    assert load_preset("paper").train_classifier.recipe == "paper"
    assert load_preset("tiny").train_classifier.contrastive is None
