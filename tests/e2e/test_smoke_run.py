"""The whole DAG, for real, on the smoke preset: by the same command that users give."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from common.storage import open_store
from common.storage.s3_client import S3Settings, s3_client
from pipelines.dags.compile import compile_pipeline
from tests.s3_server import BUCKET, s3_server
from tests.unit.captions.stub import Send, good, serve

CANARY = "sk-CANARY-e2e-90b1f4"
KEYS = dict.fromkeys(("SYNTHIO_LLM_API_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "KFP_TOKEN"), CANARY)
"""What a machine that submits runs has in its environment."""
ROOT = Path(__file__).resolve().parents[2]
COMMAND = ["--preset", "smoke", "--seeds", "2", "--n", "16"]


def run_pipeline(runs: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "SYNTHIO_STORE"} | variables
    return subprocess.run(
        [sys.executable, "-m", "pipelines", "run-pipeline", *COMMAND, *options, "--runs", str(runs)],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
    )


def record(runs: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((runs / "latest" / "run.json").read_text(encoding="utf-8"))
    return value


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def first(runs: Path) -> subprocess.CompletedProcess[str]:
    finished = run_pipeline(runs)
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    return finished


def test_the_verdict_and_the_reports_path_are_printed_last(first: subprocess.CompletedProcess[str], runs: Path) -> None:
    verdict, path = first.stdout.strip().splitlines()[-2:]
    assert verdict == json.loads((runs / "latest" / "report.json").read_text(encoding="utf-8"))["verdict"]["text"]
    assert path == f"report: {runs / 'latest' / 'report.html'}"


def test_every_stage_ran_and_succeeded(first: object, runs: Path) -> None:
    names = {row["name"] for row in record(runs)["stages"]}
    stages = {path.parent.name.replace("_", "-") for path in (ROOT / "components").glob("*/component.py")}
    stages -= {"plan-study", "record-cell", "report-study", "record-night", "judge-night"}
    assert stages <= names
    assert all(row["state"] == "succeeded" for row in record(runs)["stages"])


def test_report_json_has_what_scripts_rely_on(first: object, runs: Path) -> None:
    report = json.loads((runs / "latest" / "report.json").read_text(encoding="utf-8"))
    assert {"improved", "beats_classic", "text"} <= report["verdict"].keys()
    assert {"gold", "noise", "specaugment", "vanilla", "synthio", "synthio_classic"} == report["methods"].keys()
    for row in report["methods"].values():
        assert {"mean", "low", "high", "per_seed"} <= row["accuracy"].keys()
        assert len(row["accuracy"]["per_seed"]) == 2
        assert "macro_f1" in row
    assert all({"method", "versus", "mean", "low", "high"} <= row.keys() for row in report["differences"])
    assert all({"accepted", "rejected"} <= row.keys() for row in report["rounds"])
    assert {"n_train", "n_val", "n_test", "dropped"} <= report["data"].keys()
    assert report["data"]["n_train"] == 16
    assert report["failures"] == []


def test_an_unchanged_second_run_executes_no_task_and_gives_the_same_report(first: object, runs: Path) -> None:
    before = (runs / "latest" / "report.json").read_bytes()
    again = run_pipeline(runs)
    assert again.returncode == 0, again.stderr
    assert [row["name"] for row in record(runs)["stages"] if not row["cached"]] == []
    assert (runs / "latest" / "report.json").read_bytes() == before


def test_another_method_leaves_pretraining_cached(first: object, runs: Path) -> None:
    changed = run_pipeline(runs, "--overrides", "train_classifier.slot_weight=0.5")
    assert changed.returncode == 0, changed.stdout[-3000:] + changed.stderr
    executed = {row["name"] for row in record(runs)["stages"] if not row["cached"]}
    assert executed == {"plan", "train-classifier", "evaluate-classifier", "report"}


def test_no_key_is_found_anywhere_after_a_whole_run(first: object, runs: Path, tmp_path: Path) -> None:
    """The endpoint gives the key back in whatever way it can; the store, artifacts, report and logs hold none of it."""
    ways = itertools.cycle(
        [
            lambda request: Send(status=500, body=CANARY.encode()),
            lambda request: Send(json.dumps({"captions": [f"a {CANARY}", CANARY]})),
            lambda request: Send(CANARY),
            *[good] * 9,
        ]
    )
    with serve(lambda request, number: next(ways)(request)) as stub:
        overrides = " ".join(
            f"{name}.writer.backend=endpoint {name}.writer.endpoint.base_url={stub.url} {name}.writer.endpoint.model=stub"
            f" {name}.writer.endpoint.max_wait_s=0.01"
            for name in ("augment_captions", "revise_captions")
        )
        options = ("--methods", "gold,synthio", "--overrides", f"rounds=1 {overrides}")
        told = [run_pipeline(runs, *options, **KEYS)]
        assert told[0].returncode == 0, told[0].stdout[-3000:] + told[0].stderr[-3000:]
        sent = len(stub.requests)
        assert sent > 50 and set(stub.keys) == {f"Bearer {CANARY}"}
        told.append(run_pipeline(runs, *options, **KEYS))
        assert len(stub.requests) == sent, "a rerun costs nothing"
    report = json.loads((runs / "latest" / "report.json").read_text(encoding="utf-8"))
    assert report["writing"]["writer"] == "endpoint:stub" and report["writing"]["input_tokens"] > 1000
    assert report["writing"]["reasons"]["echoed_key"] > 1
    with pytest.MonkeyPatch.context() as environment:
        for name, value in KEYS.items():
            environment.setenv(name, value)
        for profile in ("local", "one-gpu"):
            compile_pipeline(tmp_path / f"{profile}.yaml", profile)
    files = [path for root in (runs, tmp_path) for path in root.rglob("*") if path.is_file()]
    assert len(files) > 500
    assert [path for path in files if CANARY.lower().encode() in path.read_bytes().lower()] == []
    assert not any(CANARY.lower() in (run.stdout + run.stderr).lower() for run in told)


def test_published_models_load_in_the_plain_libraries(first: object, runs: Path) -> None:
    import numpy as np
    from transformers import pipeline

    classify = pipeline("audio-classification", model=str((runs / "latest" / "classifier").resolve()))
    found = classify({"raw": np.zeros(16000, dtype=np.float32), "sampling_rate": 16000}, top_k=None)
    assert sum(row["score"] for row in found) == pytest.approx(1.0, abs=1e-3)
    assert (runs / "latest" / "t2a" / "model_index.json").is_file()
    assert (runs / "latest" / "synthetic" / "metadata.jsonl").is_file()


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
    tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    refused = run_pipeline(tmp_path / "runs", *options)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list((tmp_path / "runs").glob("*"))


def stop_at(event: str, stop: signal.Signals, runs: Path) -> tuple[int, str]:
    """Start the run in `runs`, send `stop` to all its processes soon after `event`: exit status and error output."""
    environment = {key: value for key, value in os.environ.items() if key != "SYNTHIO_STORE"}
    running = subprocess.Popen(
        [sys.executable, "-m", "pipelines", "run-pipeline", *COMMAND, "--runs", str(runs)],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert running.stdout is not None
    next(line for line in running.stdout if event in line)
    time.sleep(1.0)
    os.killpg(running.pid, stop)
    _, errors = running.communicate()
    return running.returncode, errors


def test_a_killed_and_an_interrupted_run_go_on_and_end_with_the_same_report(
    first: object, runs: Path, tmp_path: Path
) -> None:
    status, _ = stop_at("pretrain_t2a: stage_start", signal.SIGKILL, tmp_path)
    assert status == -signal.SIGKILL
    status, errors = stop_at("align_t2a: stage_start", signal.SIGINT, tmp_path)
    assert status == 130
    assert errors.strip().splitlines()[-1] == "interrupted; the same command goes on where this one stopped"
    finished = run_pipeline(tmp_path)
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    assert {"plan", "prepare-corpus"} <= {row["name"] for row in record(tmp_path)["stages"] if row["cached"]}
    reports = [sorted(folder.glob("demo-*/report.json"))[0].read_bytes() for folder in (runs, tmp_path)]
    assert reports[0] == reports[1]


def test_with_its_store_on_s3_the_report_is_the_same_and_all_items_lie_there_whole(
    first: object, runs: Path, tmp_path: Path
) -> None:
    with s3_server() as url:
        place = {
            "AWS_ENDPOINT_URL_S3": url,
            "SYNTHIO_CACHE": str(tmp_path / "cache"),
            "AWS_ACCESS_KEY_ID": "test",
            **KEYS,
        }
        finished = run_pipeline(tmp_path, "--store", f"s3://{BUCKET}/store", **place)
        assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
        with pytest.MonkeyPatch.context() as environment:
            for name, value in place.items():
                environment.setenv(name, value)
            store = open_store(f"s3://{BUCKET}/store")
            stages = {key.partition("/")[0] for key in store.list()}
            assert not [key for key in store.list() if CANARY.encode() in store.read_bytes(key)]
            client = s3_client(S3Settings.from_environment())
            assert not client.list_multipart_uploads(Bucket=BUCKET).get("Uploads")
    assert {"pretrain_t2a", "align_t2a", "synthesize_audio", "train_classifier"} <= stages
    assert not (tmp_path / "store").exists()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    assert CANARY not in finished.stdout + finished.stderr
    reports = [sorted(folder.glob("demo-*/report.json"))[0].read_bytes() for folder in (runs, tmp_path)]
    assert reports[0] == reports[1]


def test_a_report_can_be_written_again_and_stays_the_same(first: object, runs: Path) -> None:
    folder = sorted(runs.glob("demo-*/report.json"))[0].parent
    before = (folder / "report.json").read_bytes()
    (folder / "report.html").unlink()
    shown = subprocess.run(
        [sys.executable, "-m", "pipelines", "report", "--run", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    assert (folder / "report.json").read_bytes() == before
    assert "Time" in (folder / "report.html").read_text(encoding="utf-8")
