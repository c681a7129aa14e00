"""A study of two cells, for real, on the smoke preset: by the same command that users give."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kit.smoke import ROOT, environment, succeeded

COMMAND = ["--datasets", "demo", "--n", "16,32", "--preset", "smoke", "--seeds", "1", "--methods", "gold,noise"]


def run_benchmark(runs: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines", "benchmark", *COMMAND, *options, "--runs", str(runs)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=900,
    )


def published(runs: Path, name: str) -> Any:
    return json.loads((sorted(runs.glob("study-*"))[-1] / name).read_text(encoding="utf-8"))


def without_times(study: dict[str, Any]) -> dict[str, Any]:
    """The results of a study: all of it but what it took."""
    times = ("seconds", "real", "stages", "seconds_per_point")
    cells = [{key: value for key, value in cell.items() if key not in times} for cell in study["cells"]]
    return {key: value for key, value in study.items() if key not in times} | {"cells": cells}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    succeeded(run_benchmark(folder))
    return folder


def test_both_cells_are_measured_and_share_what_was_pretrained(runs: Path) -> None:
    study, run = published(runs, "study.json"), published(runs, "run.json")
    assert [(cell["n"], cell["state"]) for cell in study["cells"]] == [(16, "done"), (32, "done")]
    assert all({"mean", "low", "high"} <= cell["methods"]["gold"]["accuracy"].keys() for cell in study["cells"])
    second = {row["name"]: row["cached"] for row in run["stages"] if row["name"].endswith("-2")}
    shared = ("prepare-corpus-2", "pretrain-t2a-2", "pretrain-clap-2", "pretrain-classifier-2")
    assert all(second[name] for name in shared)
    folder = sorted(runs.glob("study-*"))[-1]
    assert (folder / "cells" / "demo-32" / "report.html").is_file()
    assert "tasks were taken from earlier work" in (folder / "study.html").read_text(encoding="utf-8")
    for cell in study["cells"]:
        assert cell["stages"].keys() >= {"plan", "train-classifier", "report"} and cell["machine"]["cores"] > 0
    assert study["cells"][0]["stages"]["pretrain-t2a"] > study["cells"][1]["stages"]["pretrain-t2a"]
    assert study["real"]["tasks"] == len(run["stages"])


def test_a_rerun_makes_the_same_study_of_cached_cells(runs: Path) -> None:
    before = published(runs, "study.json")
    assert run_benchmark(runs).returncode == 0
    assert without_times(published(runs, "study.json")) == without_times(before)
    executed = {row["name"].rstrip("-0123456789") for row in published(runs, "run.json")["stages"] if not row["cached"]}
    assert executed == {"plan-study", "record-cell", "report-study", "judge-study"}
