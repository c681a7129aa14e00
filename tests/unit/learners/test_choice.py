from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from common.contracts.training import Losses
from common.learners.calibration import best_of
from components.train_classifier.jobs import SPLITS, VALIDATION
from components.train_classifier.learners import Heard, blend

IDS = np.arange(30) % 3
TARGETS = np.eye(3)[IDS]


def answers(right: float, seed: int) -> NDArray[np.float64]:
    """Calibrated probabilities that are right in about `right` of the clips."""
    draws = np.random.default_rng(seed)
    guess = np.where(draws.random(len(IDS)) < right, IDS, (IDS + 1) % 3)
    return np.eye(3)[guess] * (right - (1 - right) / 2) + (1 - right) / 2


def conditions(told: NDArray[np.float64]) -> NDArray[np.float64]:
    """The clips as they are, unless other conditions are told too."""
    return told if told.ndim == 3 else told[None]


def item(folder: Path, validation: NDArray[np.float64], splits: NDArray[np.float64] | None, grouped: bool) -> Path:
    folder.mkdir()
    np.save(folder / VALIDATION, conditions(validation))
    if splits is not None:
        np.savez(folder / SPLITS, probabilities=conditions(splits), targets=TARGETS, grouped=grouped)
    return folder


def test_of_the_learners_with_splits_the_best_there_meets_the_others_on_validation() -> None:
    rows = {
        "flattered": Losses(judged_loss=1.0, calibrated_loss=0.1),
        "honest": Losses(judged_loss=0.5, calibrated_loss=0.4),
        "network": Losses(judged_loss=None, calibrated_loss=0.45),
    }
    assert best_of(rows) == "honest"
    assert best_of({**rows, "network": Losses(judged_loss=None, calibrated_loss=0.3)}) == "network"
    assert best_of({"network": rows["network"]}) == "network"


@pytest.mark.parametrize(("grouped", "chosen"), [(True, ["whole"]), (False, ["leaky"])])
def test_clips_in_groups_are_judged_by_the_splits_alone(tmp_path: Path, grouped: bool, chosen: list[str]) -> None:
    # On validation, which shares speakers with training, the leaky one is nearly perfect.
    leaky = item(tmp_path / "leaky", answers(0.98, 0), answers(0.6, 1), grouped)
    whole = item(tmp_path / "whole", answers(0.65, 1), answers(0.68, 1), grouped)
    heard = {path.name: Heard.of(path, TARGETS, False) for path in (leaky, whole)}
    assert [row.learner for row in blend(heard, TARGETS, False).members][:1] == chosen


def test_a_blend_keeps_those_that_lower_the_loss_and_no_others(tmp_path: Path) -> None:
    good = item(tmp_path / "good", answers(0.8, 0), answers(0.8, 1), False)
    other = item(tmp_path / "other", answers(0.8, 2), answers(0.8, 3), False)
    useless = item(tmp_path / "useless", answers(0.34, 4), answers(0.34, 5), False)
    network = item(tmp_path / "network", answers(0.9, 6), None, False)
    heard = {path.name: Heard.of(path, TARGETS, False) for path in (good, other, useless, network)}
    made = blend(heard, TARGETS, False)
    assert {row.learner for row in made.members} == {"good", "other", "network"}
    alone = blend({"good": heard["good"]}, TARGETS, False)
    assert (made.judged_loss or 1) < (alone.judged_loss or 0) and made.figure("accuracy") >= alone.figure("accuracy")


def test_a_learner_that_another_recorder_confuses_joins_no_others(tmp_path: Path) -> None:
    steady = np.stack([answers(0.8, 0)] * 4)
    confused = np.stack([answers(0.9, 1), *[answers(0.9, 1)[:, [1, 2, 0]]] * 3])
    heard = {
        "steady": Heard.of(item(tmp_path / "steady", steady, steady, False), TARGETS, False),
        "confused": Heard.of(item(tmp_path / "confused", confused, confused, False), TARGETS, False),
        "network": Heard.of(item(tmp_path / "network", confused, None, False), TARGETS, False),
    }
    assert [row.learner for row in blend(heard, TARGETS, False).members] == ["steady"]


def test_where_validation_flatters_a_learner_without_splits_joins_no_others(tmp_path: Path) -> None:
    good = Heard.of(item(tmp_path / "good", answers(0.8, 0), answers(0.8, 1), True), TARGETS, False)
    networks = {
        n: Heard.of(item(tmp_path / n, answers(0.9, k), None, False), TARGETS, False) for k, n in enumerate("ab")
    }
    made = blend({"good": good, **networks}, TARGETS, False, fair=False)
    assert [row.learner for row in made.members] == ["good"]
    assert len(blend(networks, TARGETS, False, fair=False).members) == 1
    assert len(blend(networks, TARGETS, False).members) == 2
