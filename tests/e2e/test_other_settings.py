"""A finished run, repeated with a changed setting, and its report written again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipelines.commands import main
from tests.kit.smoke import SmokeRun, executed, report, run_pipeline, succeeded


@pytest.fixture
def runs(smoke: SmokeRun, tmp_path: Path) -> Path:
    """A copy of the shared run: what it finished is in its store and in KFP's cache."""
    return Path(shutil.copytree(smoke.runs, tmp_path / "runs", symlinks=True))


def test_another_setting_of_training_leaves_all_stages_before_it_cached(smoke: SmokeRun, runs: Path) -> None:
    succeeded(run_pipeline(runs, smoke.dataset, overrides='train_classifier.learners.names=["ast","stats"]'))
    assert executed(runs) == {"plan", "train-classifier", "evaluate-classifier", "report"}


def test_three_rounds_take_over_what_one_round_made(smoke: SmokeRun, runs: Path) -> None:
    succeeded(run_pipeline(runs, smoke.dataset, overrides="rounds=3"))
    ran = executed(runs)
    assert not {task for task in ran if task.startswith(("pretrain", "finetune", "align", "augment", "prepare"))}
    assert {"revise-captions-2", "synthesize-audio-4", "filter-audio-3", "filter-audio-4", "train-classifier"} <= ran
    rounds = json.loads((runs / "latest" / "report.json").read_text(encoding="utf-8"))["rounds"]
    assert len({row["round"] for row in rounds}) == 4


def test_a_report_can_be_written_again_and_stays_the_same(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = (runs / "latest").resolve()
    before = report(runs)
    (folder / "report.html").unlink()
    assert main(["report", "--run", str(folder)]) == 0, capsys.readouterr().err
    assert report(runs) == before
    assert "Time" in (folder / "report.html").read_text(encoding="utf-8")
