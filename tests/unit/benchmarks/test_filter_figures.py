"""What the benchmark of thresholds counts."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.filter_thresholds import Trial, separation


def test_a_perfect_scorer_separates_wholly_and_one_that_guesses_by_half() -> None:
    claims = [(index % 3,) for index in range(300)]
    perfect = np.eye(3)[[own for (own,) in claims]]
    assert separation(Trial(perfect, claims))["score"] == {"auc": 1.0, "wrong_kept_75": 0.0, "wrong_kept_90": 0.0}
    guessed = separation(Trial(np.random.default_rng(0).standard_normal((300, 3)) / 5, claims))
    for figures in guessed.values():
        assert figures["auc"] == pytest.approx(0.5, abs=0.05)
        assert figures["wrong_kept_75"] == pytest.approx(0.75, abs=0.06)


def test_a_level_of_each_clip_that_says_nothing_costs_the_score_and_not_the_margin() -> None:
    rng = np.random.default_rng(0)
    claims = [(index % 3,) for index in range(300)]
    similarity = 0.2 * np.eye(3)[[own for (own,) in claims]] + 0.3 * rng.standard_normal((300, 1))
    figures = separation(Trial(similarity, claims))
    assert figures["margin"]["auc"] == 1.0 > figures["score"]["auc"]
