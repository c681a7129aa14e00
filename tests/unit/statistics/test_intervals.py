from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from sklearn.metrics import f1_score

from common.classifier.scores import calibration_error, macro_f1
from common.contracts.evaluation import Interval, Paired
from common.study.comparisons import holm, mean_interval
from components.evaluate_classifier.intervals import interval, paired
from components.evaluate_classifier.statistics import OneLabel, Resampling, accuracy_draws, resampling

CLASSES = 8
NONE = Interval(mean=0.0, low=0.0, high=0.0, per_seed=[])


def scorer_of(truth: np.ndarray, draws: Resampling, **predicted: np.ndarray) -> OneLabel:
    """Scorer of the predictions (S, N) of methods."""
    answers = {(name, s): np.eye(CLASSES)[row] for name, rows in predicted.items() for s, row in enumerate(rows)}
    return OneLabel(truth, answers, draws, 15)


def difference(truth: np.ndarray, first: np.ndarray, second: np.ndarray, draws: Resampling) -> Paired:
    names = ([(name, s) for s in range(len(first))] for name in ("first", "second"))
    return scorer_of(truth, draws, first=first, second=second).difference(*names)


def simulated(
    rng: np.random.Generator, gains: tuple[float, float], replicates: int = 3, clips: int = 160
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and the predictions (S, N) of two methods whose trainings differ by chance, plus a gain in logits each."""
    truth = rng.integers(0, CLASSES, clips)
    difficulty = rng.normal(0, 2, clips)
    arms = []
    for gain in gains:
        training = rng.normal(0, 0.3, (replicates, 1))
        right = difficulty + training + rng.normal(0, 1, (replicates, clips)) + gain > 0
        arms.append(np.where(right, truth, (truth + 1) % CLASSES))
    return truth, arms[0], arms[1]


def test_equal_methods_are_called_improved_at_most_twice_in_twenty() -> None:
    improved = 0
    for trial in range(20):
        truth, first, second = simulated(np.random.default_rng(trial), (0.0, 0.0))
        improved += difference(truth, first, second, resampling([None] * len(truth), 500, trial)).low > 0
    assert improved <= 2


def test_a_clear_gain_of_five_replicates_is_called_in_every_trial() -> None:
    for trial in range(10):
        truth, first, second = simulated(np.random.default_rng(trial), (2.0, 0.0), replicates=5)
        assert difference(truth, first, second, resampling([None] * len(truth), 500, trial)).low > 0


@pytest.mark.parametrize("replicates", [2, 3, 10])
@pytest.mark.parametrize("clips", [100, 12000])
@pytest.mark.parametrize("training_sd", [0.0, 0.03])
def test_simulated_intervals_cover_the_truth_and_no_gain_is_seldom_called_one(
    replicates: int, clips: int, training_sd: float
) -> None:
    # Accuracies near 0.8 of equal methods: each replicate is right on other clips, and each training has its own luck.
    trials, draws = 500, 200
    rng = np.random.default_rng(replicates * clips)
    of_clips = np.sqrt(2 * 0.15 / clips)
    covered = improved = 0
    for _ in range(trials):
        per_seed = rng.normal(0, np.hypot(training_sd, of_clips), replicates)
        found = paired(per_seed + rng.normal(0, of_clips, (draws, replicates)), per_seed, 0.95, NONE)
        covered += found.low <= 0 <= found.high
        improved += found.low > 0
    # Three standard deviations of 500 trials around 93 to 98 % and 3 %.
    assert 0.93 - 0.034 <= covered / trials <= 0.98 + 0.019
    assert improved / trials <= 0.03 + 0.023


def test_p_is_small_just_where_the_interval_excludes_zero() -> None:
    for trial in range(20):
        truth, first, second = simulated(np.random.default_rng(trial), (0.4, 0.0))
        found = difference(truth, first, second, resampling([None] * len(truth), 999, trial))
        excludes = found.low > 0 or found.high < 0
        assert abs(found.p - 0.05) < 0.003 or (found.p < 0.05) == excludes


def test_holm_multiplies_by_the_comparisons_left_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.5]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02] and holm([]) == []


def test_among_many_equal_methods_the_correction_keeps_false_calls_rare() -> None:
    called = corrected = 0
    for trial in range(20):
        rng = np.random.default_rng(trial)
        draws = resampling([None] * 160, 300, trial)
        p_values = []
        for _ in range(10):
            truth, first, second = simulated(rng, (0.0, 0.0))
            gain = (first == truth).astype(float) - (second == truth)
            p_values.append(paired(accuracy_draws(gain, draws), gain.mean(axis=1), 0.95, NONE).p)
        called += min(p_values) < 0.05
        corrected += min(holm(p_values)) < 0.05
    assert corrected <= 2 < called


def test_the_paired_interval_is_narrower_than_that_of_unpaired_clips() -> None:
    truth, first, second = simulated(np.random.default_rng(0), (0.5, 0.0), replicates=1)
    draws = resampling([None] * len(truth), 2000, 0)
    together = difference(truth, first, second, draws)
    right = [(arm == truth).astype(float) for arm in (first, second)]
    other = resampling([None] * len(truth), 2000, 1)
    unpaired = interval(
        accuracy_draws(right[0], draws) - accuracy_draws(right[1], other), np.array(together.per_seed), 0.95, -1.0
    )
    assert together.high - together.low < 0.8 * (unpaired.high - unpaired.low)


def test_the_interval_of_one_replicate_is_the_binomial_one() -> None:
    clips, share = 400, 0.3
    correct = (np.arange(clips) < share * clips).astype(float)[None]
    draws = resampling([None] * clips, 10000, 0)
    found = interval(accuracy_draws(correct, draws), np.array([share]), 0.95)
    half = 1.96 * np.sqrt(share * (1 - share) / clips)
    assert found.low == pytest.approx(share - half, abs=0.006)
    assert found.high == pytest.approx(share + half, abs=0.006)


def test_spread_between_replicates_widens_the_interval() -> None:
    clips = 400
    same, spread = np.zeros((3, clips)), np.zeros((3, clips))
    same[:, :200] = 1
    for row, right in enumerate((140, 200, 260)):
        spread[row, :right] = 1
    draws = resampling([None] * clips, 2000, 0)
    widths = []
    for correct in (same, spread):
        found = interval(accuracy_draws(correct, draws), correct.mean(axis=1), 0.95)
        widths.append(found.high - found.low)
    assert widths[1] > 2 * widths[0]


def test_where_only_replicates_vary_the_interval_is_students() -> None:
    per_seed = np.array([0.4, 0.5, 0.75])
    found = interval(np.tile(per_seed, (100, 1)), per_seed, 0.95)
    expected = ttest_1samp(per_seed, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    gains = per_seed - 0.45
    assert paired(np.tile(gains, (9999, 1)), gains, 0.95, NONE).p == pytest.approx(
        ttest_1samp(gains, 0).pvalue, abs=3e-4
    )


def test_no_interval_ends_beyond_what_a_score_can_be() -> None:
    high, low = np.array([0.9, 0.95]), np.array([0.05, 0.1])
    found, worse = (interval(np.tile(each, (100, 1)), each, 0.95) for each in (high, low))
    assert (found.high, worse.low) == (1.0, 0.0) and found.low > 0.5 and worse.high < 0.5
    gain = paired(np.tile(high - low, (99, 1)), np.array([0.95, -0.6]), 0.95, NONE)
    assert (gain.low, gain.high) == (-1.0, 1.0)
    study = mean_interval([0.9, -0.8])
    assert (study["low"], study["high"]) == (-1.0, 1.0)


def test_replicates_that_only_differ_by_clips_leave_the_interval_of_the_bootstrap() -> None:
    rng = np.random.default_rng(0)
    correct = rng.random((4, 400)) < 0.7
    correct[:, :40] = True
    draws = accuracy_draws(correct.astype(float), resampling([None] * 400, 1000, 0))
    alike = np.full(4, correct.mean())
    found = interval(draws, alike, 0.95)
    assert (found.low, found.high) == tuple(np.quantile(draws.mean(axis=1), [0.025, 0.975]))


def test_clips_of_one_group_are_drawn_together() -> None:
    groups: list[str | None] = [f"speaker {index // 4}" for index in range(40)]
    draws = resampling(groups, 50, 0)
    assert draws.unit == "groups"
    assert (draws.weights.reshape(50, 10, 4) == draws.weights.reshape(50, 10, 4)[:, :, :1]).all()


def test_whole_groups_give_a_wider_interval_when_groups_differ() -> None:
    groups = [f"speaker {index // 20}" for index in range(200)]
    correct = np.array([[(index // 20) % 2 for index in range(200)]], dtype=float)
    widths = []
    for named in (groups, [None] * 200):
        draws = resampling(list(named), 2000, 0)
        found = interval(accuracy_draws(correct, draws), np.array([0.5]), 0.95)
        widths.append(found.high - found.low)
    assert widths[0] > 3 * widths[1]


def test_too_few_groups_fall_back_to_clips() -> None:
    assert resampling(["a", "a", "b", "b"], 10, 0).unit == "clips"


def test_clips_without_a_group_are_groups_of_their_own() -> None:
    draws = resampling([*(f"g{i}" for i in range(5)), None, None], 200, 0)
    assert draws.unit == "groups"
    assert (draws.weights[:, 5] != draws.weights[:, 6]).any()


def test_the_same_seed_gives_the_same_interval() -> None:
    truth, first, second = simulated(np.random.default_rng(0), (0.3, 0.0))
    found = [difference(truth, first, second, resampling([None] * len(truth), 300, 7)) for _ in range(2)]
    assert found[0] == found[1]


def test_macro_f1_equals_scikit_learn_on_every_draw() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 4, 60), rng.integers(0, 4, (2, 60))
    draws = resampling([None] * 60, 200, 0)
    scorer = scorer_of(truth, draws, gold=predicted)
    for row in range(0, 200, 40):
        weights = draws.weights[row]
        for replicate in range(2):
            expected = f1_score(truth, predicted[replicate], sample_weight=weights, average="macro", labels=range(4))
            assert scorer._of(("gold", replicate)).f1_draws[row] == pytest.approx(expected)
    assert macro_f1(truth, predicted[0]) == f1_score(truth, predicted[0], average="macro")


def test_a_swap_of_methods_turns_the_difference_around() -> None:
    truth, first, second = simulated(np.random.default_rng(3), (0.5, 0.0))
    draws = resampling([None] * len(truth), 500, 0)
    there, back = difference(truth, first, second, draws), difference(truth, second, first, draws)
    assert there.low == pytest.approx(-back.high)
    assert there.win_rate == pytest.approx(1 - back.win_rate)


def test_perfectly_calibrated_predictions_have_no_calibration_error() -> None:
    probabilities = np.tile([0.75, 0.25], (400, 1))
    truth = np.where(np.arange(400) < 300, 0, 1)
    stated, guess = probabilities.max(axis=1), probabilities.argmax(axis=1)
    assert calibration_error(stated, guess == truth, 15) == pytest.approx(0)
    assert calibration_error(stated, guess == 1, 15) == pytest.approx(0.75)


def test_recall_gains_hold_every_class_of_the_test_set() -> None:
    truth = np.array([0, 0, 1, 1, 3, 3])
    first, second = np.array([[0, 0, 1, 1, 3, 0]]), np.array([[0, 1, 1, 1, 0, 0]])
    scorer = scorer_of(truth, resampling([None] * 6, 300, 0), first=first, second=second)
    rows = scorer.gains([("first", 0)], [("second", 0)], "abcd")
    assert [row.label_id for row in rows] == [0, 1, 3]
    assert [row.mean for row in rows] == [0.5, 0.0, 0.5]
    assert rows[1].low == rows[1].high == 0.0


def test_scores_of_a_perfect_classifier() -> None:
    truth = np.array([0, 1, 2, 2])
    probabilities = np.eye(4)[truth]
    found = OneLabel(truth, {("gold", 0): probabilities}, resampling([None] * 4, 300, 0), 15).score([("gold", 0)])
    assert found.accuracy == Interval(mean=1.0, low=1.0, high=1.0, per_seed=[1.0])
    assert found.recall == [1.0, 1.0, 1.0, None]
    assert np.array(found.confusion).sum() == 4


def test_the_mean_of_several_datasets_has_students_interval() -> None:
    values = [0.02, 0.05, -0.01, 0.04]
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    found = mean_interval(values)
    assert (found["mean"], found["low"], found["high"]) == pytest.approx((0.025, expected.low, expected.high))
    assert mean_interval([0.3]) == {"mean": 0.3, "low": None, "high": None}
