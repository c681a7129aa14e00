from __future__ import annotations

from typing import Any

import pytest

from common.contracts.evaluation import Evaluation
from components.report import verdict as module
from tests.unit.report.artifacts import GAINS, make_evaluation

SCORE = {"mean": 0.7, "low": 0.6, "high": 0.8, "per_seed": [0.7]}
REST = {"p": 0.5, "win_rate": 1.0, "macro_f1": SCORE}
LOWER, NONE, HIGHER = (-0.09, -0.02), (-0.03, 0.04), (0.02, 0.11)


def with_intervals(
    main: tuple[float, float] | None, combined: tuple[float, float] | None, replicates: int = 3
) -> dict[str, Any]:
    """An evaluation whose two differences of the verdict have these intervals."""
    rows = []
    for method, versus, bounds in (("synthio", "gold", main), ("synthio_classic", "best_classic", combined)):
        if bounds is not None:
            mean = sum(bounds) / 2
            rows.append(
                {
                    "method": method,
                    "versus": versus,
                    "mean": mean,
                    "low": bounds[0],
                    "high": bounds[1],
                    "per_seed": [mean] * replicates,
                    "seeds": list(range(replicates)),
                    **REST,
                }
            )
    rest = {"macro_f1": SCORE, "ece": {"mean": 0.0, "per_seed": []}, "confusion": None, "recall": None}
    scores = {
        name: {
            "title": name,
            "seeds": list(range(replicates)),
            "accuracy": {**SCORE, "per_seed": [value] * replicates},
            **rest,
        }
        for name, value in (("gold", 0.408), ("synthio", 0.519))
    }
    return {
        **make_evaluation({"gold": 0.0}, resamples=200),
        "confidence": 0.95,
        "differences": rows,
        "best": {"without": None, "with": None, "difference": None},
        "methods": scores,
        "failures": [],
        "resampled": "clips",
        "test": {"clips": 320, "groups": 0, "per_class": {}},
        "leaks": {"sets": {}, "pairs": [], "test": 320, "test_clips": 0, "shared_groups": []},
    }


def verdict(evaluation: dict[str, Any], fixed_gold_set: bool) -> dict[str, Any]:
    return module.verdict(Evaluation.model_validate(evaluation), fixed_gold_set).model_dump()


@pytest.mark.parametrize(
    ("main", "combined", "improved", "beats", "state", "words"),
    [
        (
            HIGHER,
            HIGHER,
            True,
            True,
            "improved",
            ["raised accuracy from 40.8 % to 51.9 %", "it beat that augmentation"],
        ),
        (HIGHER, NONE, True, False, "improved", ["raised accuracy", "did not reliably beat that augmentation"]),
        (HIGHER, LOWER, True, False, "improved", ["raised accuracy", "did worse than that augmentation"]),
        (NONE, HIGHER, False, True, "unclear", ["No reliable gain", "it beat that augmentation"]),
        (NONE, NONE, False, False, "unclear", ["No reliable gain", "did not reliably beat"]),
        (LOWER, NONE, False, False, "worse", ["lowered accuracy from 40.8 % to 51.9 %", "did not reliably beat"]),
        (HIGHER, None, True, None, "improved", ["raised accuracy"]),
        (None, HIGHER, None, True, "improved", ["Synthio joined with the best classic augmentation beat"]),
        (None, None, None, None, "none", ["No verdict"]),
    ],
)
def test_the_verdict_says_what_the_intervals_say(
    main: Any, combined: Any, improved: Any, beats: Any, state: str, words: list[str]
) -> None:
    found = verdict(with_intervals(main, combined), fixed_gold_set=False)
    assert (found["improved"], found["beats_classic"], found["state"]) == (improved, beats, state)
    for part in words:
        assert part in found["text"]
    assert found["text"].endswith(".") and found["text"].count(". ") == 0


def test_where_clips_have_several_labels_the_verdict_is_on_mean_average_precision() -> None:
    evaluation = with_intervals(HIGHER, None)
    for row in evaluation["methods"].values():
        row["map"] = row.pop("accuracy")
    text = verdict({**evaluation, "figure": "map"}, fixed_gold_set=False)["text"]
    assert text.startswith("Synthio raised mAP from 40.8 % to 51.9 %") and "accuracy" not in text


def test_an_interval_that_touches_zero_is_no_gain() -> None:
    assert verdict(with_intervals((0.0, 0.1), None), fixed_gold_set=False)["improved"] is False


@pytest.mark.parametrize(("replicates", "words"), [(1, "One replicate"), (2, "2 replicates")])
@pytest.mark.parametrize("bounds", [HIGHER, LOWER])
def test_fewer_than_three_replicates_are_called_neither_improved_nor_worse(
    replicates: int, words: str, bounds: tuple[float, float]
) -> None:
    found = verdict(with_intervals(bounds, bounds, replicates), fixed_gold_set=False)
    assert (found["improved"], found["beats_classic"], found["state"]) == (False, False, "unclear")
    assert found["text"].startswith(f"{words} cannot tell a gain from chance")


def test_figures_in_the_sentence_name_interval_replicates_and_clips() -> None:
    text = verdict(with_intervals(HIGHER, None), fixed_gold_set=False)["text"]
    assert "(+6.5 points, 95 % interval +2.0 to +11.0; 3 replicates, 320 test clips)" in text


def test_a_fixed_gold_set_is_named() -> None:
    assert verdict(with_intervals(HIGHER, None), fixed_gold_set=True)["text"].startswith("For this gold set: ")


def test_few_test_clips_and_labels_without_any_are_cautions() -> None:
    evaluation = with_intervals(HIGHER, HIGHER)
    assert not any("test clip" in caution for caution in verdict(evaluation, fixed_gold_set=False)["cautions"])
    evaluation["test"] = {"clips": 4, "groups": 0, "per_class": {"dog": 4, "rain": 0, "כלב": 0}}
    lacking, _, few, *_ = verdict(evaluation, fixed_gold_set=False)["cautions"]
    assert lacking == "No test clip has the label rain, \u2068כלב\u2069: the figures say nothing of it."
    assert few == "Only 4 test clips: one of them, heard rightly or not, counts 25.0 %."


@pytest.mark.parametrize(("counts", "told"), [((8, 1), True), ((5, 5), False), ((9, 8), True), ((4, 3, 3), False)])
def test_what_always_naming_one_label_reaches_is_told(counts: tuple[int, ...], told: bool) -> None:
    evaluation = with_intervals(HIGHER, HIGHER)
    evaluation["test"] = {"clips": sum(counts), "groups": 0, "per_class": dict(zip("abc", counts, strict=False))}
    cautions = verdict(evaluation, fixed_gold_set=False)["cautions"]
    share = f"{100 * counts[0] / sum(counts):.1f} %"
    assert (f"{share} of the test clips are a: always saying so reaches as much." in cautions) == told


def test_failures_few_groups_and_few_replicates_are_cautions_and_leaks_stand_in_the_verdict() -> None:
    evaluation = with_intervals(HIGHER, HIGHER)
    evaluation["leaks"] |= {"test_clips": 2, "shared_groups": ["speaker 1"]}
    evaluation["failures"] = [{"method": "noise", "seed": 0, "error": "x"}]
    evaluation["test"]["groups"] = 2
    evaluation["heard"] = ["All 320 test clips come from AudioSet."]
    found = verdict(evaluation, fixed_gold_set=False)
    # Where the verdict is printed, the cautions are not.
    assert found["text"].endswith(
        "But 2 of 320 test clips also stand among the training, corpus or synthetic clips, so the figures flatter; see Data health."
    )
    cautions = " ".join(found["cautions"])
    for words in ("both training and test", "1 training failed", "3 replicates", "only 2 groups", "from AudioSet"):
        assert words in cautions


def test_simulated_equal_methods_are_not_called_improved() -> None:
    found = verdict(make_evaluation(dict.fromkeys(GAINS, 0.0)), fixed_gold_set=False)
    assert found["improved"] is False and "No reliable gain" in found["text"]


def test_a_simulated_clear_gain_is_called_improved() -> None:
    assert verdict(make_evaluation(), fixed_gold_set=False)["improved"] is True


def test_the_best_classifiers_decide_and_come_first_whatever_learner_they_are() -> None:
    evaluation = make_evaluation()
    row = {"mean": -0.05, "low": -0.08, "high": -0.02, "per_seed": [-0.04, -0.05, -0.06], "seeds": [0, 1, 2], **REST}
    side = {"learner": "stats", "method": "gold", "accuracy": SCORE, "chosen": {}}
    synthetic = {**side, "method": "synthio", "accuracy": {**SCORE, "mean": 0.65}}
    evaluation["best"] = {"without": side, "with": synthetic, "difference": row}
    found = verdict(evaluation, False)
    assert not found["improved"]
    assert found["state"] == "worse"
    text = found["text"].replace("\u202f", " ")
    start = "The best classifier without synthetic audio reaches accuracy 70.0 % (linear discriminant on log-mel statistics; "
    assert text.startswith(start)
    assert "A simple baseline does best: linear discriminant on log-mel statistics; Gold only." in text
    assert "The paper's question, with AST: Synthio raised" in found["text"]


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        (
            (-0.01, -0.03, 0.02),
            "no reliable difference (−1.0 points, −3.0 to +2.0), so the gain is what the corpus holds",
        ),
        (
            (-0.06, -0.08, -0.02),
            "synthetic audio does worse (−6.0 points, −8.0 to −2.0), so the gain is what the corpus",
        ),
        ((0.03, 0.01, 0.05), "synthetic audio beats it (+3.0 points, +1.0 to +5.0)."),
    ],
)
def test_a_gain_stands_beside_what_corpus_clips_as_they_are_bring(
    beside: tuple[float, float, float], said: str
) -> None:
    def row(mean: float, low: float, high: float) -> dict[str, Any]:
        return {"mean": mean, "low": low, "high": high, "per_seed": [mean] * 3, "seeds": [0, 1, 2], **REST}

    evaluation = make_evaluation()
    side = {"learner": "stats", "method": "gold", "accuracy": SCORE, "chosen": {}}
    evaluation["best"] = {
        "without": side,
        "with": {**side, "method": "synthio", "accuracy": {**SCORE, "mean": 0.75}},
        "difference": row(0.05, 0.02, 0.08),
        "control": {**side, "method": "corpus_label", "accuracy": {**SCORE, "mean": 0.76}},
        "control_difference": row(*beside),
    }
    found = verdict(evaluation, False)
    text = found["text"].replace("\u202f", " ")
    assert (
        found["improved"]
        and "it helps (+5.0 points, +2.0 to +8.0). The control, corpus clips as they are, reaches 76.0 %" in text
    )
    assert said in text and "A simple baseline does best" not in text


def test_a_run_without_synthetic_audio_says_what_its_best_classifier_reaches() -> None:
    evaluation = make_evaluation({"gold": 0.0, "noise": 0.1})
    side = {"learner": "blend", "method": "noise", "accuracy": SCORE, "chosen": {}}
    evaluation["best"] = {"without": side, "with": None, "difference": None}
    found = verdict(evaluation, False)
    text = found["text"].replace("\u202f", " ")
    assert (
        text == "The best classifier without synthetic audio reaches accuracy 70.0 % (mean of learners; Random noise)."
    )
    assert (found["improved"], found["state"]) == (None, "none")
    evaluation["best"]["without"] = {**side, "learner": "stats", "method": "gold"}
    assert "A simple baseline does best: linear" in verdict(evaluation, False)["text"]
