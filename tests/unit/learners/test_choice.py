from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from common.config.learners import BLEND
from common.contracts.training import Losses
from common.learners.calibration import best_of, cross_entropy, fit_temperature, tempered
from components.train_classifier.job import SPLITS, VALIDATION
from components.train_classifier.learners import Heard, blend, losses

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
    assert best_of(rows, str) == "honest"
    assert best_of({**rows, "network": Losses(judged_loss=None, calibrated_loss=0.3)}, str) == "network"
    assert best_of({"network": rows["network"]}, str) == "network"


def test_a_blend_stands_for_the_learners_with_splits() -> None:
    rows = {
        ("stats", "gold"): Losses(judged_loss=0.4, calibrated_loss=0.4),
        (BLEND, "gold"): Losses(judged_loss=0.6, calibrated_loss=0.5),
        (BLEND, "noise"): Losses(judged_loss=0.5, calibrated_loss=0.6),
        ("ast", "gold"): Losses(judged_loss=None, calibrated_loss=0.7),
    }
    assert best_of(rows, lambda pair: pair[0]) == (BLEND, "noise")


@pytest.mark.parametrize(("grouped", "chosen"), [(True, "whole"), (False, "leaky")])
def test_clips_in_groups_are_judged_by_the_splits_alone(tmp_path: Path, grouped: bool, chosen: str) -> None:
    # On validation, which shares speakers with training, the leaky one is nearly perfect.
    leaky = item(tmp_path / "leaky", answers(0.98, 0), answers(0.6, 1), grouped)
    whole = item(tmp_path / "whole", answers(0.65, 1), answers(0.68, 1), grouped)
    heard = {path.name: Heard.of(path, TARGETS, False) for path in (leaky, whole)}
    assert best_of({name: losses([told], TARGETS, False) for name, told in heard.items()}, str) == chosen


def test_a_blend_is_the_mean_of_all_with_splits_and_of_a_network_that_lowers_its_loss(tmp_path: Path) -> None:
    good = item(tmp_path / "good", answers(0.8, 0), answers(0.8, 1), False)
    other = item(tmp_path / "other", answers(0.8, 2), answers(0.8, 3), False)
    useless = item(tmp_path / "useless", answers(0.34, 4), answers(0.34, 5), False)
    network = item(tmp_path / "network", answers(0.9, 6), None, False)
    poor = item(tmp_path / "poor", answers(0.4, 7), None, False)
    heard = {path.name: Heard.of(path, TARGETS, False) for path in (good, other, useless, network, poor)}
    made = blend(heard, TARGETS, False)
    assert [row.learner for row in made.members] == ["good", "other", "useless", "network"]
    alone = blend({"good": heard["good"]}, TARGETS, False)
    assert (made.judged_loss or 1) < (alone.judged_loss or 0) and made.figure("accuracy") >= alone.figure("accuracy")


def test_members_weigh_as_the_inverse_of_their_losses(tmp_path: Path) -> None:
    parts = {"good": answers(0.9, 0), "useless": answers(0.34, 4), "network": answers(0.8, 6)}
    heard = {
        name: Heard.of(item(tmp_path / name, told, None if name == "network" else told, False), TARGETS, False)
        for name, told in parts.items()
    }
    made = blend(heard, TARGETS, False)
    weights = {row.learner: row.weight for row in made.members}
    own = {name: losses([told], TARGETS, False) for name, told in heard.items()}
    assert weights == pytest.approx({n: 1 / (told.judged_loss or told.calibrated_loss) for n, told in own.items()})
    rows = [weights[name] * heard[name].validation[0] for name in weights]
    loss = cross_entropy(np.sum(rows, axis=0) / sum(weights.values()), TARGETS, False)
    assert made.calibrated_loss == pytest.approx(loss) and weights["good"] > 2 * weights["useless"]


def test_a_learner_that_knows_nothing_states_little() -> None:
    useless = answers(0.34, 5)
    temperature = fit_temperature(useless, TARGETS, False)
    assert tempered(useless, temperature, False).max() < 0.4


def test_where_validation_flatters_a_learner_without_splits_joins_no_others(tmp_path: Path) -> None:
    good = Heard.of(item(tmp_path / "good", answers(0.8, 0), answers(0.8, 1), True), TARGETS, False)
    networks = {
        n: Heard.of(item(tmp_path / n, answers(0.9, k), None, False), TARGETS, False) for k, n in enumerate("ab")
    }
    made = blend({"good": good, **networks}, TARGETS, False, fair=False)
    assert [row.learner for row in made.members] == ["good"]
    assert len(blend(networks, TARGETS, False, fair=False).members) == 1
    assert len(blend(networks, TARGETS, False).members) == 2
