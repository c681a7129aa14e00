"""Cells, costs and the report of a study."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from common.config.methods import resolve_methods
from common.contracts.report import Report
from common.contracts.study import PartFailure
from common.errors import ConfigError
from common.storage import STORE_VARIABLE
from common.study.cells import Cell, Record, Records, parse_cells
from common.study.cost_table import costs
from common.study.costs import check_budget, estimate
from common.study.paper import DATASETS, METHODS, published
from components.plan_study.run import run as plan_study
from components.report_study.page import markdown, page
from components.report_study.run import run as report_study
from components.report_study.study import study
from pipelines.commands import main
from pipelines.commands.benchmark import with_run
from tests.kit.artifact_pages import example

ASKED = {"preset": "tiny", "seeds": 3, "overrides": "", "seconds": 90.0}
CELLS = '[{"dataset": "demo", "n": 16}, {"dataset": "demo", "n": 32}]'


def scores(mean: float) -> dict[str, Any]:
    return {"mean": mean, "low": mean - 0.02, "high": mean + 0.02, "per_seed": [mean] * 3}


def report(gold: float, synthio: float, dataset: str = "demo", n: int = 16, **more: Any) -> Report:
    told = {"ece": {"mean": 0.1, "per_seed": []}, "seeds": [0, 1, 2]}
    methods = {
        name: {"title": name, "accuracy": scores(value), "macro_f1": scores(value), **told}
        for name, value in (("gold", gold), ("synthio", synthio))
    }
    pair = {"method": "synthio", "versus": "gold", "p": 0.01, "win_rate": 1.0, "seeds": [0, 1, 2]}
    difference = {**scores(synthio - gold), "macro_f1": scores(0.1), **pair}
    verdict = {"state": "improved", "text": "Synthio <raised> it.", "improved": True, "beats_classic": None}
    whole = example("results/report.json")
    changes = {
        "dataset": {**whole["dataset"], "name": dataset, "n": n},
        "methods": methods,
        "learners": {"stats": {"gold": {"accuracy": scores(gold + 0.2), "seeds": [0, 1, 2]}}},
        "differences": [difference],
        "verdict": {**verdict, "cautions": []},
        "failures": [],
    }
    return Report.model_validate({**whole, **changes, **more})


@pytest.mark.parametrize(("most", "refused"), [(1, True), (2, False), (100, False)])
def test_a_run_of_more_cells_than_its_place_bears_is_refused(most: int, refused: bool) -> None:
    told = pytest.raises(ConfigError, match=r"2 in one run.*bears 1") if refused else nullcontext()
    with told:
        assert len(plan_study(CELLS, "tiny", "gold", 1, "", 0.0, "", "1", most)) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("demo", "JSON list"),
        ("[]", "expected 1 to"),
        ('[{"dataset": "demo", "n": -1}]', "JSON list"),
        ('[{"dataset": "demo", "n": 5}, {"dataset": "demo", "n": 5}]', "stands twice"),
        ('[{"dataset": "demoo", "n": 5}]', "did you mean demo"),
    ],
)
def test_cells_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_cells(text)


def test_the_published_table_has_every_dataset_and_method_that_is_mapped() -> None:
    assert published("esc50", 50, "gold") == 22.25
    assert published("demo", 50, "gold") is None
    values = [published(dataset, 50, method) for dataset in DATASETS for method in METHODS]
    assert None not in values


def test_an_estimate_counts_shared_work_once_and_the_rest_per_cell() -> None:
    one, two = (estimate([50] * count, "tiny", resolve_methods(""), 3) for count in (1, 2))
    for name, cost in costs().presets["tiny"].stages.items():
        assert two.stages[name] == pytest.approx(2 * one.stages[name] - cost.once, abs=0.11)
    assert (one.items, two.items) == (18, 36)
    assert estimate([50], "tiny", resolve_methods(""), 3, price=2.0).money == pytest.approx(2 * one.hours, abs=1e-3)


def test_a_study_above_its_budget_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "store"))
    with pytest.raises(ConfigError, match="above the budget"):
        plan_study(CELLS, "tiny", "", 3, "", 0.0001, "", "1")
    command = ["--n", "16,32", "--seeds", "3", "--budget", "0.0001", "--runs", str(tmp_path / "runs")]
    assert main(["benchmark", *command]) == 2
    assert "above the budget" in capsys.readouterr().err and not (tmp_path / "runs").exists()
    assert main(["benchmark", *command, "--budget", "5", "--dry-run"]) == 0
    check_budget(estimate([16], "tiny", resolve_methods(""), 3), 0)


def test_a_failed_cell_is_named_and_the_others_keep_their_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "store"))
    first, second = plan_study(CELLS, "tiny", "gold,synthio", 3, "", 0.0, "", "run-1")
    Records(first["study"]).write(first["key"], report(0.5, 0.6))
    out = tmp_path / "study"
    # The same study, asked for again while this one runs.
    (again, _) = plan_study(CELLS, "tiny", "gold,synthio", 3, "", 0.0, "", "run-2")
    pages = (str(tmp_path / name) for name in ("h", "m", "f"))
    report_study(CELLS, "tiny", "gold,synthio", 3, "", "run-1", str(out), *pages)
    content = json.loads((out / "study.json").read_text())
    assert [cell["state"] for cell in content["cells"]] == ["done", "failed"]
    assert content["state"] == "incomplete"
    assert [(row["dataset"], row["n"]) for row in content["failures"]] == [("demo", 32)]
    assert "did not finish" in (out / "study.html").read_text()
    assert Records(again["study"]).read(parse_cells(CELLS)[0]) is None, "an old report must not stand for a new cell"
    assert second["key"] != first["key"]


def test_measured_figures_stand_beside_the_published_ones_in_points() -> None:
    cell = Cell(dataset="name: esc50\nreader: procedural_demo\n", n=50)
    chosen = resolve_methods("gold,synthio")
    content = study(
        [(cell, Record(report=report(0.25, 0.5), seconds=60.0))],
        chosen,
        {**ASKED, "estimate": estimate([50], "tiny", resolve_methods("gold,synthio"), 3)},
    )
    row = content.cells[0].methods["gold"]
    assert row.published == 22.25 and row.difference is not None
    assert row.difference.mean == pytest.approx(2.75)
    assert row.difference.low == pytest.approx(0.75)
    wins = {"method": "synthio", "versus": "gold", "wins": 1, "cells": 1, "reliable": 1, "worse": 0}
    alone = {"datasets": 1, "mean": 0.25, "low": None, "high": None}
    assert [row.model_dump() for row in content.win_rates] == [wins | alone]
    assert "25.0 (23.0 to 27.0) [22.25, +2.8]" in markdown(content)


def test_the_page_is_self_contained_and_escapes_what_it_is_given() -> None:
    cells = [(cell, Record(report=report(0.5, 0.6), seconds=60.0)) for cell in parse_cells(CELLS)]
    chosen = resolve_methods("gold,synthio")
    content = study(
        cells, chosen, {**ASKED, "estimate": estimate([16, 32], "tiny", resolve_methods("gold,synthio"), 3)}
    )
    html = page(content)
    assert "Synthio &lt;raised&gt; it." in html
    assert "http" not in html.replace("http-equiv", "") and "<script" not in html
    # The curves of two methods, and that of one learner on real clips.
    assert html.count("<polyline class=") - html.count('<svg class="key"') == 3
    assert "over training clips: learners, on real clips alone" in html
    points = content.learner_curves["demo"]["stats"]
    assert [(point.n, point.mean) for point in points] == [(16, 0.7), (32, 0.7)]
    assert page(content) == html


def test_a_point_costs_the_methods_own_work_in_its_own_cell_where_the_gain_is_reliable() -> None:
    gains = [
        {"name": "synthio", "title": "Synthio", "mean": 0.1, "low": 0.05, "high": 0.2, "reliable": True},
        {"name": "vanilla", "title": "Vanilla", "mean": 0.1, "low": -0.1, "high": 0.3, "reliable": False},
    ]
    stages = (["synthesize-audio*", "align-t2a*"], ["synthesize-audio"])
    cost = [{**gain, "stages": own} for gain, own in zip(gains, stages, strict=True)]
    thirds = [{"name": "rarest third", "classes": 2, "fewest": 1, "most": 2, "mean": 0.125}]
    tail = {"method": "synthio", "versus": "gold", "balanced": False, "classes": [], "thirds": thirds}
    cells = [
        (cell, Record(report=report(0.5, 0.6, cost=cost, long_tail=tail), seconds=60.0)) for cell in parse_cells(CELLS)
    ]
    chosen = resolve_methods("gold,vanilla,synthio")
    content = study(
        cells, chosen, {**ASKED, "estimate": estimate([16, 32], "tiny", resolve_methods("gold,synthio"), 3)}
    )
    row = {"cached": False, "state": "succeeded"}
    ran = [
        {"name": "synthesize-audio", "cell": 0, "seconds": 7.0, **row, "cached": True},
        {"name": "synthesize-audio-2", "cell": 1, "seconds": 20.0, **row},
        {"name": "synthesize-audio-3", "cell": 1, "seconds": 30.0, **row},
        {"name": "align-t2a-2", "cell": 1, "seconds": 50.0, **row},
        {"name": "train-classifier-2", "cell": 1, "seconds": 99.0, **row},
    ]
    machine = {"cpu": "any", "cores": 2, "memory_gb": 8.0}
    found = with_run(content, {"wall_seconds": 3600.0, "stages": ran, "machine": machine})
    # What came from the cache says nothing about the first cell.
    assert [cell.seconds_per_point for cell in found.cells] == [{}, {"synthio": 10.0}]
    html = page(found)
    assert "own work of Synthio for each point over gold: 10 s" in html and "rarest third +12.5" in html


def test_a_cell_that_failed_is_named_with_its_stage_error_and_real_cost() -> None:
    cells = [(cell, None) for cell in parse_cells(CELLS)]
    content = study(
        cells,
        resolve_methods("gold"),
        {**ASKED, "estimate": estimate([16, 32], "tiny", resolve_methods("gold"), 3, price=2.0)},
    )
    row = {"seconds": 4.0, "cached": False}
    stages = [
        {"name": "plan", "cell": 0, "state": "succeeded", **row},
        {"name": "align-t2a-2", "cell": 1, "state": "failed", "error": "DataError: <no> clips", **row},
    ]
    machine = {"cpu": "any", "cores": 2, "memory_gb": 8.0}
    found = with_run(content, {"wall_seconds": 3600.0, "stages": stages, "machine": machine})
    assert found.cells[1].failures == [PartFailure(stage="align-t2a", error="DataError: <no> clips")]
    assert found.cells[1].stages == {"align-t2a": 4.0}
    assert found.real is not None and found.real.money == 2.0
    assert "stage align-t2a: DataError: &lt;no&gt; clips" in page(found)
