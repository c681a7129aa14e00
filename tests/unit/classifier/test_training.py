from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import components.train_classifier.training as training
from common.classifier.model import Classifier, with_fresh_head
from common.config.base import OptimConfig
from common.config.classifier import SpecAugmentConfig
from common.errors import ConfigError
from common.storage import open_store
from common.storage.checkpoints import Checkpoints
from common.training import WHOLE, Part
from components.train_classifier.budget import Budget, make_budget
from components.train_classifier.training import Examples, batch_loss, best_row, figures_of, selection_figure, train
from tests.kit.examples import examples

OPTIM = OptimConfig(steps=90, batch_size=8, learning_rate=5e-3, record_every=5, evaluate_every=15)


def budget(data: Examples, optim: OptimConfig = OPTIM) -> Budget:
    return make_budget(
        data.labels,
        np.array([], dtype=np.int64),
        steps=optim.steps,
        batch_size=optim.batch_size,
        synthetic_fraction=0.5,
        seed=1,
    )


@pytest.fixture
def train_once(classifier: Classifier) -> Callable[..., tuple[Classifier, dict[str, Any]]]:
    def once(data: Examples, validation: Examples | None, **changes: Any) -> tuple[Classifier, dict[str, Any]]:
        fresh = with_fresh_head(classifier, ["a", "b", "c"], seed=11, multi_label=data.targets is not None)
        options: dict[str, Any] = {"select_by": "accuracy", "specaugment": None, "seed": 5, **changes}
        optim = options.pop("optim", OPTIM)
        return fresh, train(fresh, data, validation, budget(data), optim, **options)

    return once


def weights(classifier: Classifier) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in classifier.model.state_dict().items()}


def test_training_learns_what_can_be_learned(train_once: Callable[..., Any]) -> None:
    _, result = train_once(examples(6, 0), examples(10, 1))
    assert result["val_accuracy"] > 0.9
    assert result["curve"][0]["loss"] > result["curve"][-1]["loss"]


@pytest.mark.e2e
def test_shuffled_labels_give_chance(train_once: Callable[..., Any]) -> None:
    accuracies = []
    for seed in range(4):
        model, _ = train_once(examples(6, seed, shuffled=True), None)
        accuracies.append(figures_of(model, examples(40, 100))["val_accuracy"])
    assert np.mean(accuracies) < 1 / 3 + 0.25


@pytest.mark.e2e
@pytest.mark.parametrize("masks", [None, (SpecAugmentConfig(time_roll_s=0.05), 0.3)])
def test_a_repeat_is_equal_bit_for_bit(train_once: Callable[..., Any], masks: Any) -> None:
    first, figures = train_once(examples(6, 0), examples(10, 1), specaugment=masks)
    torch.manual_seed(99)
    again, repeated = train_once(examples(6, 0), examples(10, 1), specaugment=masks)
    assert figures == repeated
    assert all(torch.equal(value, weights(again)[key]) for key, value in weights(first).items())


@pytest.mark.e2e
def test_a_killed_training_goes_on_to_the_same_weights(
    train_once: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, validation = examples(6, 0), examples(10, 1)
    whole, figures = train_once(data, validation)
    monkeypatch.setattr(f"{__name__}.OPTIM", OPTIM.model_copy(update={"checkpoint_every_s": 1e-9}))
    real, calls = training.validation_figures, 0

    def dies(probabilities: np.ndarray, targets: np.ndarray, multi_label: bool) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return real(probabilities, targets, multi_label)

    monkeypatch.setattr(training, "validation_figures", dies)
    with pytest.raises(KeyboardInterrupt):
        train_once(data, validation, checkpoints=Checkpoints(open_store(tmp_path)))
    assert list(tmp_path.glob("step-*"))
    resumed, repeated = train_once(data, validation, checkpoints=Checkpoints(open_store(tmp_path)))
    assert repeated == figures
    assert all(torch.equal(value, weights(resumed)[key]) for key, value in weights(whole).items())


def test_the_best_row_has_the_highest_score_then_the_lower_loss_then_the_earlier_step() -> None:
    script = [(0.5, 1.0), (0.75, 2.0), (0.75, 1.5), (0.75, 1.5), (0.5, 0.1)]
    curve: list[dict[str, float]] = [
        {"step": step, "loss": 0.0, "val_accuracy": score, "val_macro_f1": -score, "val_loss": loss}
        for step, (score, loss) in enumerate(script, start=1)
    ]
    assert best_row([{"step": 0, "loss": 0.0}, *curve], "accuracy")["step"] == 3
    assert best_row(curve, "macro_f1")["step"] == 5


def test_the_model_ends_with_the_weights_of_its_best_row(train_once: Callable[..., Any]) -> None:
    validation = examples(10, 1)
    model, result = train_once(examples(6, 0), validation)
    assert result["best_step"] == best_row(result["curve"], "accuracy")["step"] < OPTIM.steps
    measured = figures_of(model, validation)
    assert measured == {key: result[key] for key in measured}


def test_gold_and_slot_weigh_the_same(classifier: Classifier) -> None:
    data = examples(2, 0)
    plan = budget(data)
    model = with_fresh_head(classifier, ["a", "b", "c"], seed=1)

    loss, _ = batch_loss(model, data, plan, None)(0, torch.Generator().manual_seed(0), WHOLE)

    def mean(indices: np.ndarray) -> float:
        batch = torch.stack([data.features[index][0] for index in indices])
        logits = model.model(batch).logits
        return float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(data.labels[indices])).detach())

    gold, slot = mean(plan.gold[0]), mean(plan.slot[0])
    assert float(loss.detach()) == pytest.approx((gold + slot) / 2, abs=1e-5)


@pytest.mark.parametrize("parts", [2, 4])
def test_the_parts_of_a_batch_average_to_the_whole(classifier: Classifier, parts: int) -> None:
    model = with_fresh_head(classifier, ["a", "b", "c"], seed=1)
    data = examples(2, 0)
    loss = batch_loss(model, data, budget(data), None)

    def value(part: Part) -> float:
        return float(loss(0, torch.Generator().manual_seed(0), part)[0].detach())

    mean = sum(value(Part(index, parts)) for index in range(parts)) / parts
    assert mean == pytest.approx(value(WHOLE), abs=1e-6)


@pytest.mark.e2e
def test_training_in_bf16_learns_and_goes_on_after_a_kill_to_the_same_weights(
    train_once: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, validation = examples(6, 0), examples(10, 1)
    optim = OPTIM.model_copy(update={"precision": "bf16", "checkpoint_every_s": 1e-9})
    whole, figures = train_once(data, validation, optim=optim)
    assert figures["val_accuracy"] > 0.9
    assert all(value.dtype == torch.float32 for value in weights(whole).values())
    in_fp32, _ = train_once(data, validation)
    assert any(not torch.equal(value, weights(in_fp32)[key]) for key, value in weights(whole).items())
    real, calls = training.validation_figures, 0

    def dies(probabilities: np.ndarray, targets: np.ndarray, multi_label: bool) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return real(probabilities, targets, multi_label)

    monkeypatch.setattr(training, "validation_figures", dies)
    with pytest.raises(KeyboardInterrupt):
        train_once(data, validation, optim=optim, checkpoints=Checkpoints(open_store(tmp_path)))
    resumed, repeated = train_once(data, validation, optim=optim, checkpoints=Checkpoints(open_store(tmp_path)))
    assert repeated == figures
    assert all(torch.equal(value, weights(resumed)[key]) for key, value in weights(whole).items())


def test_figures_to_choose_by_are_those_of_the_clips() -> None:
    assert selection_figure(None, multi_label=False) == "accuracy"
    assert selection_figure(None, multi_label=True) == "map"
    assert selection_figure("macro_f1", multi_label=True) == "macro_f1"
    with pytest.raises(ConfigError, match=r"'accuracy'.*several labels.*map, macro_f1"):
        selection_figure("accuracy", multi_label=True)
    with pytest.raises(ConfigError, match=r"'map'.*one label.*accuracy, macro_f1"):
        selection_figure("map", multi_label=False)


@pytest.mark.parametrize("several", [False, True])
def test_the_loss_on_validation_tells_certain_mistakes_apart(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    targets = np.array([[0, 1, 0]], np.float32) if several else None
    validation = Examples([[torch.zeros(1, 1)]], np.array([1]), targets)
    found = []
    for wrong in (20.0, 40.0):
        monkeypatch.setattr(training, "feature_logits", lambda *_, wrong=wrong: torch.tensor([[wrong, 0.0, -90.0]]))
        found.append(figures_of(classifier, validation)["val_loss"])
    assert found[1] > found[0] + 5
