"""The pipeline on the smoke preset, by the same command that users give."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tests.kit.sounds import RATE, class_sound

ROOT = Path(__file__).resolve().parents[2]
SHORT = "rounds=1 evaluate_classifier.neighbours_checked=2"
"""Settings that leave out work of the smoke preset that proves nothing more: one round of three, and fewer neighbours
of each test clip, since an untrained CLAP finds all clips alike."""
COMMAND = ("run-pipeline", "--preset", "smoke", "--seeds", "2", "--n", "12")
CANARY = "sk-CANARY-e2e-90b1f4"
KEYS = dict.fromkeys(("SYNTHIO_LLM_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "KFP_TOKEN"), CANARY)
"""What a machine that submits runs has in its environment."""
LABELS = ("bell", "hiss", "siren")


def environment(**variables: str) -> dict[str, str]:
    """The variables of a user's shell, in which the tests' own run store is not set."""
    kept = {key: value for key, value in os.environ.items() if key != "SYNTHIO_STORE"}
    return {**kept, "PYTHONPATH": str(ROOT), **variables}


def run_pipeline(
    runs: Path, dataset: Path, *options: str, overrides: str = "", root: Path = ROOT, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end.

    Args:
        overrides: settings beyond `SHORT`.
        root: the source tree that it is run from.
    """
    return subprocess.run(
        [*command(runs, dataset, overrides), *options],
        cwd=root,
        env=environment(PYTHONPATH=str(root), **variables),
        capture_output=True,
        text=True,
        timeout=1500,
    )


def write_dataset(folder: Path) -> Path:
    """A user's own small dataset: wave files, labels and splits as CSV, and the YAML that names them."""
    folder.mkdir(parents=True)
    lines = ["path,label,split"]
    for split, count in (("train", 10), ("test", 8)):
        for label_id, label in enumerate(LABELS):
            for index in range(count):
                name, rng = f"{split}-{label}-{index}.wav", np.random.default_rng((len(split), label_id, index))
                soundfile.write(folder / name, class_sound(label_id, rng), RATE)
                lines.append(f"{name},{label},{split}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = folder / "sounds.yaml"
    path.write_text("name: sounds\nlabels: labels.csv\nlicence: CC0-1.0\ndomain: test sounds\n", encoding="utf-8")
    return path


def command(runs: Path, dataset: Path, overrides: str = "") -> list[str]:
    """The command line of a run in `runs`."""
    program = [sys.executable, "-m", "pipelines", *COMMAND, "--dataset", str(dataset)]
    return [*program, "--overrides", f"{SHORT} {overrides}", "--runs", str(runs)]


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
    def dataset(self) -> Path:
        """The dataset's YAML."""
        return self.runs.parent / "sounds" / "sounds.yaml"

    @property
    def stdout(self) -> str:
        """What the command printed."""
        return (self.runs / "stdout.txt").read_text(encoding="utf-8")

    @property
    def folder(self) -> Path:
        """The folder of the run; `latest` moves on when a test runs the same command again."""
        return sorted(self.runs.glob("sounds-*"))[0]


def make_run(runs: Path) -> None:
    """The run that all tests share."""
    finished = succeeded(run_pipeline(runs, write_dataset(runs.parent / "sounds")))
    (runs / "stdout.txt").write_text(finished.stdout, encoding="utf-8")


def record(folder: Path) -> dict[str, Any]:
    """The content of run.json of a run."""
    value: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return value


def executed(runs: Path) -> set[str]:
    """The tasks of the newest run that did not come from the cache."""
    return {row["name"] for row in record(runs / "latest")["stages"] if not row["cached"]}


def report(runs: Path) -> bytes:
    """report.json of the first run in `runs`."""
    return sorted(runs.glob("sounds-*/report.json"))[0].read_bytes()
