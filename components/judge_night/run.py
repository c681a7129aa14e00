"""Reads the figures and findings of a night, fails if there are findings, writes nothing.

The idea of the stage: a bad night fails the run by name, after `record_night` has written the page that shows why.
"""

from __future__ import annotations

from pathlib import Path

from common.errors import RegressionError
from common.log import event, get_logger
from common.storage import read_json
from common.storage.artifacts import verify_artifact

log = get_logger("judge_night")


def run(night_path: str) -> None:
    """Fail if the night has findings; arguments as in `component.py`.

    Raises:
        RegressionError: something failed or got worse; the message names each finding.
        StorageError: the artifact is damaged.
    """
    verify_artifact("judge_night", "night", Path(night_path))
    night = read_json(Path(night_path) / "night.json")
    if night["findings"]:
        raise RegressionError("; ".join(night["findings"]))
    event(log, "good_night", run=night["run"], figures=len(night["figures"]))
