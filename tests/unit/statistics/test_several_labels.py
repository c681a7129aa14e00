"""Figures of clips with several labels, against scikit-learn and closed forms."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from common.classifier.scores import THRESHOLDS, calibration_error, choose_threshold
from common.config.evaluation import EvaluateClassifierConfig
from common.config.methods import METHODS
from components.evaluate_classifier.comparison import compare
from components.evaluate_classifier.multi_label import (
    SeveralLabels,
    affordable,
    average_precision_draws,
    macro_f1_draws,
)
from components.evaluate_classifier.statistics import resampling

LABELS = 5
REPLICATES = (0, 1, 2)


def simulated(
    rng: np.random.Generator, gains: dict[str, float], clips: int = 150
) -> tuple[np.ndarray, dict[tuple[str, int], np.ndarray]]:
    """Truth (N, K), and the probabilities of methods whose trainings differ by chance, and by a gain in logits each."""
    truth = rng.random((clips, LABELS)) < 0.2
    truth[~truth.any(axis=1), 0] = True
    evidence = rng.normal(0, 1, truth.shape)
    answers = {}
    for name, gain in gains.items():
        for replicate in REPLICATES:
            skill = 1.2 + gain + rng.normal(0, 0.15)
            logits = skill * truth + evidence + rng.normal(0, 0.7, truth.shape) - 1.5
            answers[name, replicate] = 1 / (1 + np.exp(-logits))
    return truth, answers


def scorer_of(
    truth: np.ndarray, answers: dict[tuple[str, int], np.ndarray], resamples: int, seed: int = 0
) -> SeveralLabels:
    draws = resampling([None] * len(truth), resamples, seed)
    return SeveralLabels(truth, answers, dict.fromkeys(answers, 0.5), draws, 15)


def keys(name: str) -> list[tuple[str, int]]:
    return [(name, replicate) for replicate in REPLICATES]


@pytest.mark.parametrize("decimals", [1, 12])
def test_average_precision_of_a_draw_is_that_of_scikit_learn_with_the_draws_weights_ties_and_all(decimals: int) -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((90, 4)) < [0.3, 0.05, 0.0, 0.9]
    scores = np.round(rng.random(truth.shape) + 0.2 * truth, decimals)
    draws = resampling([None] * len(truth), 150, 0)
    found = average_precision_draws(truth, scores, draws.weights)
    assert np.isnan(found[:, 2]).all()
    for row in range(0, 150, 7):
        weights = draws.weights[row]
        for label in (0, 1, 3):
            if weights[truth[:, label]].sum() == 0:
                assert np.isnan(found[row, label])
                continue
            expected = average_precision_score(truth[:, label], scores[:, label], sample_weight=weights)
            assert found[row, label] == pytest.approx(expected, abs=1e-12)


def test_macro_f1_of_a_draw_is_that_of_scikit_learn() -> None:
    truth, answers = simulated(np.random.default_rng(1), {"gold": 0.0})
    heard = answers["gold", 0] >= 0.4
    draws = resampling([None] * len(truth), 60, 0)
    found = macro_f1_draws(truth, heard, draws.weights)
    for row in range(0, 60, 9):
        expected = f1_score(truth, heard, sample_weight=draws.weights[row], average="macro", zero_division=0)
        assert found[row] == pytest.approx(expected)


def test_scores_are_those_of_scikit_learn_over_the_labels_that_have_test_clips() -> None:
    truth, answers = simulated(np.random.default_rng(2), {"gold": 0.0})
    truth = np.column_stack([truth, np.zeros(len(truth), bool)])
    answers = {key: np.column_stack([rows, np.full(len(rows), 0.1)]) for key, rows in answers.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = scorer_of(truth, answers, 200).score(keys("gold"))
    expected = [average_precision_score(truth[:, :-1], answers[key][:, :-1], average="macro") for key in keys("gold")]
    assert found.map.per_seed == pytest.approx(expected)
    assert found.map.mean == pytest.approx(np.mean(expected))
    assert found.map.low < found.map.mean < found.map.high
    assert found.average_precision[-1] is None
    assert np.mean(found.average_precision[:-1]) == pytest.approx(np.mean(expected))
    f1_scores = [f1_score(truth[:, :-1], answers[key][:, :-1] >= 0.5, average="macro") for key in keys("gold")]
    assert found.macro_f1.per_seed == pytest.approx(f1_scores)
    assert found.confusion is None and found.recall is None


def test_the_mean_over_labels_of_a_draw_leaves_out_labels_that_the_draw_lacks() -> None:
    truth = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [1, 0]], bool)
    perfect = truth.astype(float)
    found = scorer_of(truth, {("gold", 0): perfect}, 300).score([("gold", 0)])
    assert (found.map.low, found.map.high) == (1.0, 1.0)


def test_the_calibration_error_is_the_gap_between_stated_and_found_shares() -> None:
    truth = np.arange(400).reshape(200, 2) % 4 == 0
    assert calibration_error(np.full(truth.shape, 0.25), truth, 15) == pytest.approx(0)
    assert calibration_error(np.full(truth.shape, 0.65), truth, 15) == pytest.approx(0.4)
    assert calibration_error(truth.astype(float), truth, 15) == 0


def test_the_threshold_is_the_one_with_the_best_macro_f1_and_of_equal_ones_the_nearest_to_a_half() -> None:
    truth, answers = simulated(np.random.default_rng(3), {"gold": 0.0}, clips=60)
    rows = answers["gold", 0] ** 3
    scores = [f1_score(truth, rows >= threshold, average="macro", zero_division=0) for threshold in THRESHOLDS]
    assert scores[THRESHOLDS.tolist().index(choose_threshold(truth, rows))] == max(scores)
    assert max(scores) > f1_score(truth, rows >= 0.5, average="macro")
    assert choose_threshold(truth, np.where(truth, 0.9, 0.1)) == 0.5


@pytest.mark.e2e
def test_equal_methods_are_called_improved_at_most_twice_in_twenty() -> None:
    improved = 0
    for trial in range(20):
        truth, answers = simulated(np.random.default_rng(trial), {"gold": 0.0, "synthio": 0.0})
        improved += scorer_of(truth, answers, 300, trial).difference(keys("synthio"), keys("gold")).low > 0
    assert improved <= 2


def test_a_clear_gain_is_called_in_every_trial_and_turns_around_with_the_methods() -> None:
    for trial in range(5):
        truth, answers = simulated(np.random.default_rng(trial), {"gold": 0.0, "synthio": 1.0})
        scorer = scorer_of(truth, answers, 300, trial)
        there = scorer.difference(keys("synthio"), keys("gold"))
        back = scorer.difference(keys("gold"), keys("synthio"))
        assert there.low > 0 and there.p < 0.05 and there.win_rate == 1.0
        assert (back.high, back.mean, back.p) == pytest.approx((-there.low, -there.mean, there.p))


def test_pairing_makes_the_interval_narrower_than_that_of_each_method_alone() -> None:
    truth, answers = simulated(np.random.default_rng(4), {"gold": 0.0, "synthio": 0.1})
    scorer = scorer_of(truth, answers, 500)
    paired, alone = scorer.difference(keys("synthio"), keys("gold")), scorer.score(keys("gold")).map
    assert paired.high - paired.low < 0.9 * (alone.high - alone.low)


def test_gains_of_labels_add_up_to_the_gain_in_mean_average_precision() -> None:
    truth, answers = simulated(np.random.default_rng(5), {"gold": 0.0, "synthio": 0.5})
    truth[:, 3] = False
    scorer = scorer_of(truth, answers, 200)
    rows = scorer.gains(keys("synthio"), keys("gold"), "abcde")
    assert [row.label_id for row in rows] == [0, 1, 2, 4]
    whole = scorer.difference(keys("synthio"), keys("gold")).mean
    assert np.mean([row.mean for row in rows]) == pytest.approx(whole)
    assert all(row.low <= row.mean <= row.high for row in rows)
    assert [row.clips for row in rows] == [int(truth[:, k].sum()) for k in (0, 1, 2, 4)]


def test_a_comparison_of_several_labels_has_the_same_fields_as_one_of_single_labels() -> None:
    truth, answers = simulated(np.random.default_rng(6), {"gold": 0.0, "noise": 0.1, "synthio": 0.8})
    predictions: dict[str, dict[int, np.ndarray]] = {}
    for (name, replicate), rows in answers.items():
        predictions.setdefault(name, {})[replicate] = rows
    settings = EvaluateClassifierConfig(resamples=200)
    methods = {name: METHODS[name] for name in predictions}
    names = list("abcde")
    answered = (predictions, answers["gold", 0], answers["synthio", 0])
    common = ([None] * len(truth), names, methods, dict.fromkeys(REPLICATES, "noise"), {})
    thresholds = {**dict.fromkeys(answers, 0.5), ("zero_shot", 0): 0.3, ("delivered", 0): 0.4}
    several, _ = compare(*answered, truth, *common, thresholds, settings, 0)
    single, _ = compare(*answered, truth.argmax(axis=1), *common, {}, settings, 0)
    assert (several.figure, single.figure) == ("map", "accuracy")
    assert len(several.differences) == len(single.differences)
    rows = [found.per_class.classes[0] for found in (several, single)]
    assert (rows[0].label_id, rows[0].clips) == (rows[1].label_id, rows[1].clips)
    assert several.methods["gold"].accuracy is None and single.methods["gold"].map is None
    assert several.best_classic.map == several.methods["noise"].map
    assert several.best_classic is not None
    assert several.zero_shot.thresholds == [0.3]
    assert several.zero_shot.map.per_seed == several.methods["gold"].map.per_seed[:1]


def test_draws_are_fewer_only_where_clips_and_labels_are_very_many() -> None:
    assert affordable(10000, 1103, 17) == 10000
    assert 1000 <= affordable(10000, 10231, 200) < 10000
    assert affordable(200, 10**6, 500) == 200
