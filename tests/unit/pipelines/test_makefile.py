"""What is typed after `make` reaches the command as it is: spaces, quotes, dashes, dollars."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
VALUES = (
    "Anna's clips",
    'say "dog"',
    "-x.wav",
    "--help",
    "a$b and $HOME",
    "100% #1 & more; (all) | `date` \\ *",
    "Größe, ünïcode",
    "~/python3-projects/runs",
)
TARGETS = {
    "run-pipeline": "DATASET PRESET N SEEDS METHODS REUSE_T2A_FROM LLM_ENDPOINT BUDGET OVERRIDES RUNS PROFILE RUNNER STORE",
    "benchmark": "DATASETS PRESET N SEEDS METHODS OVERRIDES BUDGET PRICE HISTORY RUNS STORE RUNNER PROFILE",
    "doctor": "DATASET PRESET N SEEDS METHODS OVERRIDES LLM_ENDPOINT PROFILE STORE",
    "fetch-data": "DATASET",
    "fetch-models": "PRESET OVERRIDES STORE",
    "push-data": "DATASET STORE",
    "compile": "PROFILE",
    "train-job": "PRESET OVERRIDES CORPUS CLAP NODES PROFILE",
    "images": "PROFILE REGISTRY STAGES",
    "push": "PROFILE REGISTRY",
    "estimate": "PRESET OVERRIDES GPUS",
    "schedule-nightly": "CELLS PRESET METHODS SEEDS PROFILE",
    "trend": "STORE HISTORY",
    "report": "RUN",
    "remake": "RUN CLIP OUT",
    "nano-corpus": "DATA OUT COLLECTIONS LEAVE_OUT NOTES WORDS SHARDS SEED",
    "nano": "CORPUS WORK PARTS OVERRIDES EXPORT",
    "classify": "MODEL AUDIO",
    "export-onnx": "MODEL OUT",
    "bench-synthesis": "T2A CLAP GOLD",
}


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment, in a folder with an awkward name, whose Python writes its arguments to a file."""
    folder = tmp_path_factory.mktemp("venv") / "Anna's env $1"
    (folder / "bin").mkdir(parents=True)
    (folder / ".installed").touch()
    python = folder / "bin" / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\0" "$@" > "$ARGUMENTS"\n')
    python.chmod(0o755)
    return folder


def arguments(venv: Path, place: Path, *words: str, **environment: str) -> list[str]:
    """What `make WORDS` starts Python with."""
    told = {**os.environ, "ARGUMENTS": str(place / "arguments"), "MAKEFLAGS": "", **environment}
    subprocess.run(["make", "-s", "-C", str(ROOT), f"VENV={venv}", *words], check=True, env=told)
    return (place / "arguments").read_text(encoding="utf-8").split("\0")[:-1]


def option(name: str) -> str:
    other = {"IMAGE_BUILDER": "builder", "BUILD_ARGUMENTS": "arguments"}
    return f"--{other.get(name, name.lower().replace('_', '-'))}"


@pytest.mark.parametrize("target", TARGETS)
def test_every_value_of_a_target_arrives_as_it_was_typed(venv: Path, tmp_path: Path, target: str) -> None:
    names = TARGETS[target].split()
    typed = {name: VALUES[index % len(VALUES)] for index, name in enumerate(names)}
    found = arguments(venv, tmp_path, target, *(f"{name}={value}" for name, value in typed.items()))
    assert {f"{option(name)}={value}" for name, value in typed.items()} <= set(found)


@pytest.mark.parametrize("value", VALUES)
def test_every_kind_of_value_arrives_from_the_command_line_and_from_the_environment(
    venv: Path, tmp_path: Path, value: str
) -> None:
    assert f"--audio={value}" in arguments(venv, tmp_path, "classify", "MODEL=m", f"AUDIO={value}")
    assert f"--audio={value}" in arguments(venv, tmp_path, "classify", AUDIO=value)


def test_what_is_not_given_has_its_default_and_a_switch_is_off_at_zero(venv: Path, tmp_path: Path) -> None:
    found = arguments(venv, tmp_path, "run-pipeline", "FRESH=0", "FOLLOW=1", "RUNS=my runs")
    assert {"--dataset=demo", "--preset=tiny", "--seeds=3", "--budget=0", "--methods=", "--follow"} <= set(found)
    assert "--fresh" not in found
    assert "--runs=runs" in arguments(venv, tmp_path, "run-pipeline", "RUNS=")
    assert "--run=my runs/latest" in arguments(venv, tmp_path, "report", "RUNS=my runs")
    nightly = arguments(venv, tmp_path, "schedule-nightly")
    assert {"--preset=small", "--profile=one-gpu", "--cells=esc50:100,urbansound8k:50,gtzan:50"} <= set(nightly)
    assert "--preset=tiny" in arguments(venv, tmp_path, "schedule-nightly", "PRESET=tiny")


def test_the_environment_is_made_once_and_again_when_the_pins_change(venv: Path, tmp_path: Path) -> None:
    assert not (tmp_path / "arguments").exists()
    arguments_of_a_finished_one = arguments(venv, tmp_path, "report")
    assert "pip" not in arguments_of_a_finished_one
    os.utime(venv / ".installed", (0, 0))
    try:
        assert arguments(venv, tmp_path, "setup", f"PYTHON={venv}/bin/python")[:3] == ["-m", "pip", "install"]
        assert (venv / ".installed").stat().st_mtime > 0
    finally:
        (venv / ".installed").touch()


def test_the_runs_that_are_removed_are_those_that_were_named(venv: Path, tmp_path: Path) -> None:
    for name in ("Anna's runs", "-runs", "Anna", "s"):
        (tmp_path / name / "store").mkdir(parents=True)
    subprocess.run(["make", "-s", "-C", str(ROOT), "clean-runs", f"RUNS={tmp_path}/Anna's runs"], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["-runs", "Anna", "s"]


def test_a_folder_without_runs_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    refused = subprocess.run(
        ["make", "-s", "-C", str(ROOT), "clean-runs", f"RUNS={tmp_path}"], capture_output=True, text=True
    )
    assert refused.returncode and "holds no runs" in refused.stderr
    assert (tmp_path / "thesis.txt").exists()
