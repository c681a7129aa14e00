"""Ablations, factors, long tail, ceilings, and the work behind a gain."""

from __future__ import annotations

from typing import Any

import pytest

from common.config.methods import METHODS
from common.contracts.evaluation import Evaluation, Range
from common.contracts.report import Cost, Report
from common.contracts.training import Chosen, Selection
from components.report.effects import factors, long_tail, own_stages
from components.report.page import cost_rows, own_seconds
from components.report.sections import ablations, factor_lines, impossible, method_rows
from tests.kit.artifact_pages import example
from tests.kit.figures import chosen
from tests.unit.report.artifacts import make_evaluation


def score(mean: float) -> dict[str, Any]:
    return {"mean": mean, "low": mean - 0.05, "high": mean + 0.05, "per_seed": [mean] * 3}


def figures(mean: float) -> dict[str, Any]:
    return {"accuracy": score(mean), "macro_f1": score(mean), "ece": {"mean": 0.1, "per_seed": []}, "seeds": [0]}


def scored(*names: str, **changes: Any) -> Report:
    rows = {name: {"title": METHODS[name].title, **figures(0.9 if name == "extra_real" else 0.5)} for name in names}
    whole = example("results/report.json")
    rest = {"methods": rows, "dataset": {**whole["dataset"], "name": "esc50"}, "differences": [], "failures": []}
    return Report.model_validate({**whole, **rest, "best_classic": None, **changes})


def test_an_ablation_is_the_subjects_gain_over_it_turned_round() -> None:
    row = {"method": "synthio", **score(0.04), "low": 0.01, "high": 0.07}
    row |= {"p": 0.01, "win_rate": 1.0, "macro_f1": score(0.04), "seeds": [0, 1, 2]}
    differences = [{**row, "versus": name} for name in ("gold", "noise", "extra_real", "synthio_erm")]
    results = scored("gold", "synthio", "synthio_erm", "noise", "extra_real", differences=differences)
    ((title, found, is_reliable),) = ablations(results)
    assert (title, found) == (METHODS["synthio_erm"].title, Range(mean=-0.04, low=-0.07, high=-0.01))
    assert is_reliable


def test_ceilings_stand_last_are_never_best_and_the_papers_figures_stand_beside() -> None:
    results = scored("extra_real", "synthio", "gold", best_classic={**figures(0.4), "chosen": {}})
    rows = method_rows(results, 50)
    assert list(rows) == ["gold", "synthio", "best_classic", "extra_real"]
    assert [row.best for row in rows.values()] == [True, True, False, False]
    assert rows["gold"].paper == 22.25 and rows["extra_real"].paper is None


def test_a_ceiling_that_was_asked_for_and_not_trained_is_called_impossible_unless_it_failed() -> None:
    asked = {name: METHODS[name] for name in ("gold", "extra_real")}
    assert impossible(scored("gold"), asked) == [
        (METHODS["extra_real"].title, "the dataset has no labelled clips beyond those of the run")
    ]
    assert impossible(scored("gold", "extra_real"), asked) == []
    failures = [{"method": "extra_real", "seed": 0, "error": "no clips"}]
    assert impossible(scored("gold", failures=failures), asked) == []


def test_scores_by_factor_are_means_over_replicates_of_validation() -> None:
    def tried(*scores: float) -> Chosen:
        entries = [
            {"classic": "none", "factor": f, "strength": None, "val_accuracy": s}
            for f, s in zip((1, 2), scores, strict=True)
        ]
        return chosen(factor=2, tried=entries)

    evaluation = Evaluation.model_validate(make_evaluation({"synthio": 0.0}, replicates=(0, 1), resamples=200))
    trained = {"synthio/0": tried(0.2, 0.6), "synthio/1": tried(0.4, 0.8)}
    selection = Selection.model_validate({"select_by": "accuracy", "best_classic": {}, **trained})
    found = factors(selection, evaluation)
    assert found.split == "validation"
    assert [row.mean for row in found.methods["synthio"]] == pytest.approx([0.3, 0.7])
    (line,) = factor_lines(scored("synthio", factors=found.model_dump()))
    assert (line.name, line.xs, line.ys) == ("Synthio", [1.0, 2.0], pytest.approx([30.0, 70.0]))


def test_the_long_tail_begins_with_the_rarest_class_and_equal_classes_have_none() -> None:
    rest = {"label_id": 0, "first": 0.5, "second": 0.5, "per_seed": []}
    classes = [
        {"label": c, "clips": 9, "mean": i / 10, "low": 0.0, "high": 1.0, **rest} for i, c in enumerate("abcdef")
    ]
    told = {"per_class": {"method": "synthio", "versus": "gold", "classes": classes}}
    evaluation = Evaluation.model_validate({**make_evaluation({"gold": 0.0}, resamples=200), **told})
    found = long_tail(evaluation, dict(zip("abcdef", (60, 50, 40, 30, 20, 10), strict=True)))
    assert found is not None and [row.label for row in found.classes] == list("fedcba")
    assert [third.mean for third in found.thirds] == pytest.approx([0.45, 0.25, 0.05])
    equal = long_tail(evaluation, dict.fromkeys("abcdef", 5))
    assert equal is not None and equal.balanced and equal.thirds == []


STAGES = [
    {"name": "pretrain-t2a", "seconds": 900.0},
    {"name": "align-t2a", "seconds": 60.0},
    {"name": "synthesize-audio", "seconds": 10.0},
    {"name": "synthesize-audio-2", "seconds": 30.0},
]


def test_own_work_is_that_of_the_stages_a_method_needs_and_unknown_from_the_cache() -> None:
    assert own_stages(METHODS["noise"]) == []
    assert own_seconds(own_stages(METHODS["vanilla"]), STAGES) == 10.0
    assert own_seconds(own_stages(METHODS["synthio"]), STAGES) == 100.0
    assert own_seconds(own_stages(METHODS["synthio"]), [{**STAGES[1], "cached": True}]) is None


@pytest.mark.parametrize(("reliable", "text"), [(True, "10.0 s"), (False, "not reliable")])
def test_time_for_a_point_is_work_over_gain_and_told_only_of_reliable_gains(reliable: bool, text: str) -> None:
    row = {"name": "synthio", "title": "Synthio", "mean": 0.1, "low": 0.02, "high": 0.2, "reliable": reliable}
    ((_, _, each),) = cost_rows([Cost.model_validate({**row, "stages": own_stages(METHODS["synthio"])})], STAGES)
    assert each == text
