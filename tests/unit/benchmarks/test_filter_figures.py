"""What the benchmark of thresholds counts."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.filter_thresholds import Trial, separation

MAINS = [index % 3 for index in range(300)]
CLAIMS = np.eye(3, dtype=bool)[MAINS]


def test_a_perfect_scorer_separates_wholly_and_one_that_guesses_by_half() -> None:
    perfect = np.eye(3)[MAINS]
    assert separation(Trial(perfect, CLAIMS, MAINS))["score"] == {
        "auc": 1.0,
        "wrong_kept_75": 0.0,
        "wrong_kept_90": 0.0,
    }
    guessed = separation(Trial(np.random.default_rng(0).standard_normal((300, 3)) / 5, CLAIMS, MAINS))
    for figures in guessed.values():
        assert figures["auc"] == pytest.approx(0.5, abs=0.05)
        assert figures["wrong_kept_75"] == pytest.approx(0.75, abs=0.06)


def test_a_level_of_each_clip_that_says_nothing_costs_the_score_and_not_the_margin() -> None:
    rng = np.random.default_rng(0)
    similarity = 0.2 * np.eye(3)[MAINS] + 0.3 * rng.standard_normal((300, 1))
    figures = separation(Trial(similarity, CLAIMS, MAINS))
    assert figures["margin"]["auc"] == 1.0 > figures["score"]["auc"]
