"""Nights: their history, what counts as worse, and the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.contracts.study import Asked, Night, NightFigure, Study
from common.errors import ConfigError, RegressionError, StorageError
from common.storage import STORE_VARIABLE, open_store, write_json
from common.storage.artifacts import write_sums
from common.study.cells import History, Records, check_history, night_scope
from components.judge_study.run import run as judge_study
from components.record_night.night import fallen, good_before, seconds_of, slower
from components.record_night.page import page
from components.record_night.run import run as record_night
from tests.kit.artifact_pages import example
from tests.kit.s3_server import BUCKET, s3_server

ASKED = {"preset": "small", "seeds": 3, "overrides": ""}
UNPUBLISHED = {"published": None, "difference": None}


def figure(mean: float, half: float = 0.05, method: str = "synthio") -> NightFigure:
    return NightFigure(
        cell="esc50, n = 100",
        method=method,
        title=method,
        figure="accuracy",
        mean=mean,
        low=mean - half,
        high=mean + half,
    )


def night(run: str, mean: float = 0.6, seconds: float = 3600.0, **changes: Any) -> Night:
    fields: dict[str, Any] = {
        "run": run,
        "at": f"2026-01-{int(run):02d}T02:00:00+00:00",
        "code": "c0de",
        "place": "one GPU",
        "asked": ASKED,
        "state": "good",
        "figures": (figure(mean),),
        "seconds": {"whole study": seconds},
    }
    return Night(**{**fields, **changes})


def study(mean: float = 0.6, seconds: float = 3600.0, **changes: Any) -> dict[str, Any]:
    scores = {"mean": mean, "low": mean - 0.05, "high": mean + 0.05, "per_seed": [mean] * 3}
    cell = {"dataset": "esc50", "n": 100, "figure": "accuracy", "seconds": seconds - 10}
    methods = {"synthio": {"title": "Synthio", "accuracy": scores, "macro_f1": scores, **UNPUBLISHED}}
    cells = [{**cell, "state": "done", "failures": [], "methods": methods}]
    fields = {"state": "complete", "cells": cells, "failures": [], "seconds": seconds}
    return {**example("study/study.json"), **ASKED, **fields, **changes}


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "folder":
        monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "store"))
        yield str(tmp_path / "store")
        return
    with s3_server() as url:
        for name, value in (
            ("AWS_ENDPOINT_URL_S3", url),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            (STORE_VARIABLE, f"s3://{BUCKET}/{tmp_path.name}"),
        ):
            monkeypatch.setenv(name, value)
        yield f"s3://{BUCKET}/{tmp_path.name}"


def measure(tmp_path: Path, run: str, content: dict[str, Any]) -> Path:
    """One night through the stage; returns its artifact."""
    folder, out = tmp_path / f"study{run}", tmp_path / f"night{run}"
    write_json(folder / "study.json", content)
    write_sums(folder)
    record_night(str(folder), "try", run, "c0de", "one GPU", str(out), str(out) + ".html", str(out) + ".json")
    return out


def judge(run: str = "", state: str | None = "complete") -> None:
    """Judge a study whose report has this state; with `run` the night of that run."""
    records = Records(run or "a study")
    records.clear()
    records.begin()
    if state is not None:
        records.finish(state)
    judge_study("try" if run else "", run or "a study")


def test_nights_are_kept_compared_and_judged_on_either_store(store: str, tmp_path: Path) -> None:
    for number in range(1, 5):
        measure(tmp_path, str(number), study())
        judge(str(number))
    worse = measure(tmp_path, "5", study(mean=0.5, seconds=5000.0))
    with pytest.raises(
        RegressionError, match=r"esc50, n = 100, synthio: accuracy fell to 50.0 %.*whole study: took 5000"
    ):
        judge("5")
    kept = History(open_store(store), "try").nights()
    assert [row.state for row in kept] == ["good"] * 4 + ["worse"]
    trend = (worse / "trend.html").read_text()
    assert "fell to 50.0" in trend and trend == Path(str(worse) + ".html").read_text()
    # A bad night is no measure for the next.
    measure(tmp_path, "6", study())
    judge("6")


def test_a_night_that_is_recorded_again_is_not_appended_twice(store: str, tmp_path: Path) -> None:
    for content in (study(mean=0.6), study(mean=0.61)):
        measure(tmp_path, "1", content)
    (kept,) = History(open_store(store), "try").nights()
    assert kept.figures[0].mean == 0.61


def test_an_incomplete_night_names_what_failed_and_is_no_baseline(store: str, tmp_path: Path) -> None:
    failure = {"dataset": "gtzan", "n": 50, "error": "the cell did not finish"}
    measure(tmp_path, "1", study(mean=0.9, state="incomplete", failures=[failure]))
    with pytest.raises(RegressionError, match="gtzan, n = 50: the cell did not finish"):
        judge("1", state="incomplete")
    measure(tmp_path, "2", study(mean=0.6))
    judge("2")


def test_a_study_passes_when_its_report_is_complete_and_fails_when_it_is_not_there(store: str) -> None:
    judge()
    with pytest.raises(RegressionError, match="incomplete"):
        judge(state="incomplete")
    with pytest.raises(StorageError, match=r"no report.*report-study"):
        judge(state=None)


def test_a_night_that_was_not_recorded_fails_the_run(store: str, tmp_path: Path) -> None:
    measure(tmp_path, "1", study())
    with pytest.raises(StorageError, match=r"not in the history try.*record-night"):
        judge("2")


@pytest.mark.parametrize("name", ["it's", "a/b", "a b", 'a"b', "é", "a\n"])
def test_a_history_of_another_kind_of_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="expected letters"):
        check_history(name)


def test_of_all_nights_the_work_of_the_last_bad_one_is_kept(store: str, tmp_path: Path) -> None:
    objects = open_store(store)
    objects.child(night_scope("of another history")).write_bytes("align_t2a/item", b"weights")
    left = []
    for run, content in (
        ("1", study()),
        ("2", study(mean=0.1)),
        ("3", study()),
        ("4", study(mean=0.2)),
        ("5", study()),
    ):
        objects.child(night_scope(run)).write_bytes("align_t2a/item", b"weights")
        measure(tmp_path, run, content)
        left.append([key.split("/")[1] for key in objects.list("nights/")])
    other = night_scope("of another history").split("/")[1]
    assert left == [[other], ["2", other], ["2", other], ["4", other], ["4", other]]


def test_a_night_keeps_the_records_of_its_own_cells_and_not_those_of_the_night_before(
    store: str, tmp_path: Path
) -> None:
    for run in ("1", "2", "3"):
        Records(run).begin()
        measure(tmp_path, run, study())
    assert list(open_store(store).list("study/")) == ["study/3/began.json"]


def test_a_damaged_history_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "try.jsonl").write_text("{not json")
    with pytest.raises(StorageError, match="restore it, or move it away"):
        History(open_store(tmp_path), "try").nights()


def test_nights_that_asked_for_something_else_are_not_compared() -> None:
    other = night("1", asked={**ASKED, "seeds": 5})
    assert good_before([other, night("2"), night("3", state="worse")], Asked.model_validate(ASKED)) == [night("2")]


def test_time_is_compared_within_a_place_after_three_good_nights() -> None:
    good = [night(str(number), seconds=3600.0) for number in range(1, 4)]
    assert slower({"whole study": 4300.0}, good, "one GPU") == []
    assert len(slower({"whole study": 4400.0}, good, "one GPU")) == 1
    assert slower({"whole study": 4400.0}, good, "eight GPUs") == []
    assert slower({"whole study": 4400.0}, good[:2], "one GPU") == []
    short = [night(str(number), seconds=10.0) for number in range(1, 4)]
    assert slower({"whole study": 60.0}, short, "one GPU") == []


def test_seconds_of_a_cell_count_from_the_end_of_the_one_before() -> None:
    cells: list[dict[str, Any]] = [
        {"dataset": name, "n": 50, "seconds": seconds, "state": "done", "failures": []}
        for name, seconds in (("b", 300.0), ("a", 100.0), ("c", None))
    ]
    found = seconds_of(Study.model_validate(study(cells=cells, seconds=310.0)))
    assert found == {"whole study": 310.0, "a, n = 50": 100.0, "b, n = 50": 200.0}


@pytest.mark.e2e
def test_false_alarms_are_as_rare_as_stated_when_every_night_draws_anew_and_none_when_it_repeats() -> None:
    # Figures of the same accuracy, whose 95 % interval has the half width 1.96 sd, as drawn anew every night.
    generator, sd, alarms, trials = np.random.default_rng(0), 0.02, 0, 4000
    for _ in range(trials):
        means = generator.normal(0.6, sd, 8)
        good = [night(str(index + 1), figures=(figure(mean, 1.96 * sd),)) for index, mean in enumerate(means[:7])]
        alarms += len(fallen([figure(means[7], 1.96 * sd)], good))
    assert 0.01 < alarms / trials < 0.05
    steady = [night(str(index + 1)) for index in range(7)]
    assert fallen([figure(0.6)], steady) == [] and len(fallen([figure(0.54)], steady)) == 1


def test_the_page_is_self_contained_and_escapes_what_it_is_given() -> None:
    nights = [night(str(index + 1), mean=0.5 + index / 100) for index in range(9)]
    nights.append(night("10", state="worse", findings=("<b>fell</b>",)))
    html = page("nightly", nights)
    assert "&lt;b&gt;fell" in html and "<b>" not in html
    assert "http" not in html.replace("http-equiv", "") and "<script" not in html
    assert html.count("<polyline") == 4 and 'class="mark"' in html
    assert page("nightly", nights[:1]).count("<polyline") == 4


def test_the_artifact_of_a_night_is_whole(store: str, tmp_path: Path) -> None:
    out = measure(tmp_path, "1", study())
    found = json.loads((out / "night.json").read_text())
    assert (found["state"], found["findings"], found["place"]) == ("good", [], "one GPU")
