"""The pipeline on the smoke preset, by the same command that users give."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHORT = "rounds=1 evaluate_classifier.neighbours_checked=2"
"""Settings that leave out work of the smoke preset that proves nothing more: one round of three, and fewer neighbours
of each test clip, since an untrained CLAP finds all clips alike."""
COMMAND = ("run-pipeline", "--preset", "smoke", "--seeds", "2", "--n", "16")


def environment(**variables: str) -> dict[str, str]:
    """The variables of a user's shell, in which the tests' own run store is not set."""
    kept = {key: value for key, value in os.environ.items() if key != "SYNTHIO_STORE"}
    return {**kept, "PYTHONPATH": str(ROOT), **variables}


def run_pipeline(
    runs: Path, *options: str, overrides: str = "", root: Path = ROOT, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end.

    Args:
        overrides: settings beyond `SHORT`.
        root: the source tree that it is run from.
    """
    return subprocess.run(
        [*command(runs, overrides), *options],
        cwd=root,
        env=environment(PYTHONPATH=str(root), **variables),
        capture_output=True,
        text=True,
        timeout=1500,
    )


def command(runs: Path, overrides: str = "") -> list[str]:
    """The command line of a run in `runs`."""
    return [sys.executable, "-m", "pipelines", *COMMAND, "--overrides", f"{SHORT} {overrides}", "--runs", str(runs)]


def succeeded(finished: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """The finished process, which must have succeeded."""
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return finished


@dataclass(frozen=True)
class SmokeRun:
    """A finished run, shared by all tests that read one.

    Attributes:
        runs: the folder of runs, with the store and KFP's cache; whoever runs in it again copies it first.
    """

    runs: Path

    @property
    def stdout(self) -> str:
        """What the command printed."""
        return (self.runs / "stdout.txt").read_text(encoding="utf-8")

    @property
    def latest(self) -> Path:
        """The folder of the run."""
        return self.runs / "latest"


def make_run(runs: Path) -> None:
    """The run that all tests share."""
    finished = succeeded(run_pipeline(runs))
    (runs / "stdout.txt").write_text(finished.stdout, encoding="utf-8")


def record(runs: Path) -> dict[str, Any]:
    """The content of run.json of the newest run."""
    value: dict[str, Any] = json.loads((runs / "latest" / "run.json").read_text(encoding="utf-8"))
    return value


def executed(runs: Path) -> set[str]:
    """The tasks of the newest run that did not come from the cache."""
    return {row["name"] for row in record(runs)["stages"] if not row["cached"]}


def report(runs: Path) -> bytes:
    """report.json of the first run in `runs`."""
    return sorted(runs.glob("demo-*/report.json"))[0].read_bytes()
