"""One run of the whole DAG on the smoke preset, and what is kept of it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from common.learners.opened import open_classifier
from components.catalogue import STAGES
from pipelines.commands import main
from tests.kit.smoke import ROOT, SmokeRun, executed, record, run_pipeline, succeeded

STAGES_OF_STUDIES = {"plan-study", "record-cell", "report-study", "record-night", "judge-study"}


def test_the_verdict_and_the_reports_path_are_printed_last(smoke: SmokeRun) -> None:
    verdict, path = smoke.stdout.strip().splitlines()[-2:]
    assert verdict == json.loads((smoke.folder / "report.json").read_text(encoding="utf-8"))["verdict"]["text"]
    assert path == f"report: {smoke.runs / 'latest' / 'report.html'}"


def test_every_stage_ran_and_succeeded(smoke: SmokeRun) -> None:
    run = record(smoke.folder)
    assert {stage.replace("_", "-") for stage in STAGES} - STAGES_OF_STUDIES <= {row["name"] for row in run["stages"]}
    assert all(row["state"] == "succeeded" for row in run["stages"])


def test_the_time_outside_the_models_is_a_part_of_the_whole(smoke: SmokeRun) -> None:
    assert 0.05 < record(smoke.folder)["outside_models_share"] < 0.99


def test_report_json_has_what_scripts_rely_on(smoke: SmokeRun) -> None:
    report = json.loads((smoke.folder / "report.json").read_text(encoding="utf-8"))
    assert {"improved", "beats_classic", "text"} <= report["verdict"].keys()
    assert {"gold", "noise", "specaugment", "vanilla", "synthio", "synthio_classic"} == report["methods"].keys()
    for row in report["methods"].values():
        assert {"mean", "low", "high", "per_seed"} <= row["accuracy"].keys()
        assert len(row["accuracy"]["per_seed"]) == 2
        assert "macro_f1" in row
    assert all({"method", "versus", "mean", "low", "high"} <= row.keys() for row in report["differences"])
    assert all({"accepted", "rejected"} <= row.keys() for row in report["rounds"])
    assert {"n_train", "n_val", "n_test", "dropped"} <= report["data"].keys()
    assert report["data"]["n_train"] == 12
    assert report["failures"] == []


def test_what_the_run_publishes_opens(smoke: SmokeRun) -> None:
    report = json.loads((smoke.folder / "report.json").read_text(encoding="utf-8"))
    told = report["delivered"]
    assert told["method"] in report["learners"][told["learner"]] and 0 < told["test_accuracy"] <= 1
    found = open_classifier(smoke.folder / "classifier").probabilities([np.zeros(16000, dtype=np.float32)], 16000)
    assert found.sum() == pytest.approx(1.0, abs=1e-3)
    assert (smoke.folder / "t2a" / "model_index.json").is_file()
    assert (smoke.folder / "synthetic" / "metadata.jsonl").is_file()


def test_a_clip_is_made_again_from_its_provenance_to_the_same_bytes(
    smoke: SmokeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = (smoke.folder / "synthetic" / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    options = ["--run", str(smoke.folder), "--out", str(tmp_path / "again.flac")]
    assert main(["remake", *options, "--clip", json.loads(clips[0])["clip_id"]]) == 0
    assert "the same bytes as in the run" in capsys.readouterr().out
    assert main(["remake", *options, "--clip", "nothing"]) == 2
    assert "metadata.jsonl" in capsys.readouterr().err


def edited(path: Path) -> None:
    """Change the wording of a module, and nothing else: its docstrings begin otherwise, and a comment is added."""
    text = path.read_text(encoding="utf-8")
    changed = "# A remark.\n" + re.sub(r'^( *)"""(?=[A-Z`])', r'\1"""Say: ', text, flags=re.MULTILINE)
    assert changed.count('"""Say: ') > 0
    path.write_text(changed, encoding="utf-8")


def test_with_other_docstrings_a_second_run_executes_no_task_and_gives_the_same_report(
    smoke: SmokeRun, tmp_path: Path
) -> None:
    for name in ("common", "components", "pipelines"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("common/log.py", "components/align_t2a/run.py", "components/align_t2a/component.py"):
        edited(tmp_path / name)
    succeeded(run_pipeline(smoke.runs, smoke.dataset, root=tmp_path))
    assert executed(smoke.runs) == set()
    again = (smoke.runs / "latest" / "report.json").read_bytes()
    assert again == (smoke.folder / "report.json").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dataset", "demoo"), "did you mean demo"),
        (("--preset", "tini"), "did you mean tiny"),
        (("--methods", "gold,synthioo"), "did you mean synthio"),
        (("--overrides", "align_t2a.bta=3"), "did you mean beta"),
        (("--overrides", "align_t2a.beta=-3"), "greater than 0"),
        (("--n", "many"), "whole number"),
        (("--seeds", "0"), "at least 1"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert main(["run-pipeline", *options, "--runs", str(tmp_path / "runs")]) == 2
    told = capsys.readouterr().err
    assert message in told and told.startswith("error: ") and told.count("\n") == 1
    assert not list((tmp_path / "runs").glob("*"))
