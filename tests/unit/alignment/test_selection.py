from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from common.config.t2a import AlignT2AConfig
from components.align_t2a.selection import best_step, criterion, stop_reason


def settings(**changes: Any) -> AlignT2AConfig:
    return AlignT2AConfig.model_validate({"max_error_rise": 0.02, "max_distance_rise": 0.1, "patience": 2} | changes)


def probes(errors: list[float] | None, distances: list[float]) -> list[dict[str, float]]:
    rows = [{"step": 10.0 * i, "spectrum_db": value, "latent_frechet": -i} for i, value in enumerate(distances)]
    for row, value in zip(rows, errors or [], strict=False):
        row["held_out_error"] = value
    return rows


def test_the_nearest_state_whose_held_out_error_has_not_risen_is_kept() -> None:
    errors, distances = [1.0, 0.8, 0.81, 0.85], [9.0, 7.0, 5.0, 3.0]
    assert best_step(probes(errors, distances), settings()) == 20
    assert best_step(probes(errors, distances), settings(max_error_rise=0.06)) == 30
    assert best_step(probes(errors, distances), settings(keep_best_by="held_out_error")) == 10
    assert best_step(probes(errors, distances), settings(keep_best_by="none")) == 30


def test_a_state_whose_error_is_no_longer_near_the_lowest_gives_way_though_it_is_nearer() -> None:
    assert best_step(probes([1.0, 0.9, 0.8], [9, 5, 7]), settings()) == 20


def test_what_is_kept_is_the_newest_state_or_the_one_kept_before() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        seen = probes((1 + 0.1 * rng.standard_normal(8)).tolist(), (9 + rng.standard_normal(8)).tolist())
        kept = [best_step(seen[:end], settings()) for end in range(1, 9)]
        assert kept[0] == 0
        assert all(now in (before, 10 * end) for end, (before, now) in enumerate(pairwise(kept), start=1))


def test_the_unaligned_model_is_kept_when_nothing_beats_it_and_the_first_of_equals() -> None:
    assert best_step(probes([1.0, 1.1, 1.2], [9, 7, 5]), settings()) == 0
    assert best_step(probes([1.0, 0.9, 0.9], [9, 9, 9]), settings()) == 10
    assert best_step(probes([1.0, 1.0, 1.0], [9, 7, 7]), settings()) == 10


def test_without_validation_clips_the_distance_decides() -> None:
    seen = probes(None, [9, 5, 7])
    for by in ("spectrum_db", "held_out_error"):
        assert criterion(seen, settings(keep_best_by=by)) == "spectrum_db"
        assert best_step(seen, settings(keep_best_by=by)) == 10
    assert criterion(seen, settings(keep_best_by="latent_frechet")) == "latent_frechet"


def test_the_step_that_a_learner_gains_most_from_is_kept_whatever_its_error() -> None:
    def kept(losses: list[float], errors: list[float] | None) -> int:
        seen = probes(errors, [5, 7, 9])
        by = settings(keep_best_by="learner_gain")
        return best_step([row | {"learner_loss": loss} for row, loss in zip(seen, losses, strict=True)], by)

    # Silent validation clips have no error.
    for errors in ([1.0, 1.1, 1.2], None):
        assert [kept(losses, errors) for losses in ([1.0, 0.9, 0.8], [1.0, 0.7, 0.8], [0.7, 0.7, 0.8])] == [20, 10, 0]
    assert criterion(probes([1.0], [5]), settings(keep_best_by="learner_gain")) == "spectrum_db"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preference_loss": []}, "must name losses"),
        ({"preference_loss": ["dpo", "dpo"]}, "each once"),
        ({"preference_loss": ["dpo", "sdpo"], "keep_best_by": "none"}, "cannot choose among them"),
        ({"preference_loss": "ipo"}, "preference_loss"),
    ],
)
def test_losses_that_cannot_be_chosen_among_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**changes)


@pytest.mark.parametrize(
    ("errors", "distances", "reason"),
    [
        ([1.0, 0.9, 0.95, 0.95], [9, 9, 9, 9], "held_out_error"),
        ([1.0, 0.9, 0.95, 0.91], [9, 9, 9, 9], ""),
        ([1.0, 0.9, 0.91, 0.919], [9, 9, 9, 9], ""),
        ([1.0, 1.03, 1.03], [9, 9, 9], "held_out_error"),
        ([1.0, 1.03], [9, 9], ""),
        ([1.0, 0.9, 0.8, 0.7], [10, 8, 9.5, 9.5], "spectrum_db"),
        ([1.0, 0.9, 0.8, 0.7], [10, 8, 8.5, 8.9], ""),
        (None, [10, 11.5, 11.5], "spectrum_db"),
    ],
)
def test_alignment_stops_when_a_figure_stays_worse_than_its_best(
    errors: list[float] | None, distances: list[float], reason: str
) -> None:
    assert stop_reason(probes(errors, distances), settings()) == reason


def test_with_patience_1_a_single_rise_stops() -> None:
    assert stop_reason(probes([1.0, 0.9, 0.95], [9, 9, 9]), settings(patience=1)) == "held_out_error"
    assert stop_reason(probes([1.0], [9]), settings(patience=1)) == ""
