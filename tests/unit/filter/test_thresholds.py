from __future__ import annotations

import numpy as np
import pytest

from common.config.clap import ThresholdConfig
from common.errors import DataError
from components.filter_audio.thresholds import Threshold, calibrate, claim_scores, planted_trial


def similarities(n: int, labels: int, seed: int, signal: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of an imperfect scorer, and true labels: theirs lie higher on average; a clip's own level varies."""
    rng = np.random.default_rng(seed)
    own = [i % labels for i in range(n)]
    values = rng.standard_normal((n, labels)) + rng.standard_normal((n, 1))
    values[np.arange(n), own] += signal
    return np.tanh(values / 6), np.eye(labels, dtype=bool)[own]


def test_score_and_margin_of_a_claim() -> None:
    similarity = np.array([[0.5, 0.2, 0.1], [0.3, 0.9, 0.8]])
    score, margin = claim_scores(similarity, np.array([[1, 0, 0], [0, 0, 1]], bool))
    np.testing.assert_allclose(score, [0.5, 0.8])
    np.testing.assert_allclose(margin, [0.3, -0.1])


def test_a_margin_is_negative_exactly_where_another_label_wins() -> None:
    similarity, own = similarities(200, 5, seed=0)
    _, margin = claim_scores(similarity, own)
    np.testing.assert_array_equal(margin >= 0, similarity.argmax(1) == own.argmax(1))


@pytest.mark.parametrize("kind", ["percentile", "margin"])
def test_a_higher_percentile_accepts_fewer(kind: str) -> None:
    scores, margins = claim_scores(*similarities(60, 4, seed=1))
    fresh = claim_scores(*similarities(300, 4, seed=2))
    counts = []
    for percentile in (0, 10, 30, 60, 100):
        threshold = calibrate(ThresholdConfig(kind=kind, percentile=percentile), scores, margins)
        counts.append(sum(threshold.reason(score, margin) is None for score, margin in zip(*fresh, strict=True)))
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1]


@pytest.mark.parametrize("kind", ["percentile", "margin"])
def test_a_percentile_loses_that_share_of_the_calibration_clips(kind: str) -> None:
    scores, margins = claim_scores(*similarities(100, 4, seed=3))
    threshold = calibrate(ThresholdConfig(kind=kind, percentile=20), scores, margins)
    lost = sum(threshold.reason(score, margin) is not None for score, margin in zip(scores, margins, strict=True))
    assert lost == 20


def test_a_margin_without_percentile_asks_that_the_label_wins() -> None:
    threshold = calibrate(ThresholdConfig(kind="margin", percentile=None), np.zeros(0), np.zeros(0))
    assert threshold.reason(0.1, 0.01) is None
    assert threshold.reason(0.9, -0.01) == "low_margin"


def test_a_fixed_threshold_needs_no_validation_clips_and_the_others_do() -> None:
    none = np.zeros(0)
    assert calibrate(ThresholdConfig(kind="fixed", min_score=0.4), none, none).reason(0.39, 1.0) == "low_score"
    with pytest.raises(DataError, match="no gold validation clips"):
        calibrate(ThresholdConfig(kind="percentile", percentile=10), none, none)


def test_planted_labels_are_rejected_more_often_than_right_ones() -> None:
    validation, (held_out, own) = similarities(40, 4, seed=4), similarities(200, 4, seed=5)
    for config in (
        ThresholdConfig(kind="fixed", min_score=0.1),
        ThresholdConfig(kind="percentile", percentile=20),
        ThresholdConfig(kind="margin", percentile=20),
        ThresholdConfig(kind="margin", percentile=None),
    ):
        threshold = calibrate(config, *claim_scores(*validation))
        figures = planted_trial(threshold.passes, held_out, own, own.argmax(axis=1).tolist())
        assert figures["recall"] > figures["wrong_kept"] + 0.2, config


def test_the_planted_trial_counts_every_claim() -> None:
    similarity = np.array([[0.9, 0.1], [0.6, 0.5]])
    figures = planted_trial(Threshold(kind="margin", min_margin=0.0).passes, similarity, np.eye(2, dtype=bool), [0, 1])
    assert figures == {"recall": 0.5, "wrong_kept": 0.5, "precision": 0.5}


def test_of_several_claimed_labels_the_least_counts_against_the_best_of_the_others() -> None:
    similarity = np.array([[0.5, 0.4, 0.1], [0.3, 0.9, 0.8], [0.2, 0.3, 0.4]])
    score, margin = claim_scores(similarity, np.array([[1, 1, 0], [1, 0, 1], [1, 1, 1]], bool))
    np.testing.assert_allclose(score, [0.4, 0.3, 0.2])
    np.testing.assert_allclose(margin, [0.3, -0.6, 1.2])


def test_a_planted_claim_takes_the_place_of_the_main_label_only() -> None:
    similarity = np.array([[0.9, 0.8, 0.1, 0.2]])
    claims = np.array([[1, 1, 0, 0]], bool)
    figures = planted_trial(Threshold(kind="margin", min_margin=0.0).passes, similarity, claims, [0])
    assert figures == {"recall": 1.0, "wrong_kept": 0.0, "precision": 1.0}
