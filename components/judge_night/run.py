"""I/O shell of `judge_night`."""

from __future__ import annotations

from pathlib import Path

from common.errors import RegressionError
from common.log import event, get_logger
from common.storage import read_json
from common.storage.artifacts import verify_artifact

log = get_logger("judge_night")


def run(night_path: str) -> None:
    """Pass a good night; see `component.py` for the arguments.

    Raises:
        RegressionError: something failed or got worse; the message names each.
        StorageError: the night is damaged.
    """
    verify_artifact("judge_night", "night", Path(night_path))
    night = read_json(Path(night_path) / "night.json")
    if night["findings"]:
        raise RegressionError("; ".join(night["findings"]))
    event(log, "good_night", run=night["run"], figures=len(night["figures"]))
