"""A run that is killed, one that is interrupted, and one whose store lies on S3 end with the same report."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from common.storage import open_store
from common.storage.artifacts import PACK
from common.storage.s3_client import S3Settings, s3_client
from tests.kit.s3_server import BUCKET, s3_server
from tests.kit.smoke import CANARY, KEYS, ROOT, SmokeRun, command, environment, record, report, run_pipeline, succeeded


def stop_at(event: str, stop: signal.Signals, runs: Path, dataset: Path) -> tuple[int, str]:
    """Start the run in `runs`, send `stop` to all its processes soon after `event`: exit status and error output."""
    running = subprocess.Popen(
        command(runs, dataset),
        cwd=ROOT,
        env=environment(),
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


def test_a_killed_and_an_interrupted_run_go_on_and_end_with_the_same_report(smoke: SmokeRun, tmp_path: Path) -> None:
    status, _ = stop_at("pretrain_t2a: stage_start", signal.SIGKILL, tmp_path, smoke.dataset)
    assert status == -signal.SIGKILL
    status, errors = stop_at("align_t2a: stage_start", signal.SIGINT, tmp_path, smoke.dataset)
    assert status == 130
    assert errors.strip().splitlines()[-1] == "interrupted; the same command goes on where this one stopped"
    succeeded(run_pipeline(tmp_path, smoke.dataset))
    assert {"plan", "prepare-corpus"} <= {row["name"] for row in record(tmp_path / "latest")["stages"] if row["cached"]}
    assert report(tmp_path) == report(smoke.runs)


def test_with_its_store_on_s3_and_clips_packed_the_report_is_the_same_and_all_items_lie_there_whole(
    smoke: SmokeRun, tmp_path: Path
) -> None:
    with s3_server() as url:
        place = {
            "AWS_ENDPOINT_URL_S3": url,
            "SYNTHIO_CACHE": str(tmp_path / "cache"),
            "AWS_ACCESS_KEY_ID": "test",
            PACK: "1",
            **KEYS,
        }
        finished = succeeded(run_pipeline(tmp_path, smoke.dataset, "--store", f"s3://{BUCKET}/store", **place))
        with pytest.MonkeyPatch.context() as variables:
            for name, value in place.items():
                variables.setenv(name, value)
            store = open_store(f"s3://{BUCKET}/store")
            stages = {key.partition("/")[0] for key in store.list()}
            assert not [key for key in store.list() if CANARY.encode() in store.read_bytes(key)]
            client = s3_client(S3Settings.from_environment())
            assert not client.list_multipart_uploads(Bucket=BUCKET).get("Uploads")
    assert {"pretrain_t2a", "align_t2a", "synthesize_audio", "train_classifier"} <= stages
    assert not (tmp_path / "store").exists()
    assert list((tmp_path / "kfp").rglob("clips.tar")), "clips that no task read are still packed"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    assert CANARY not in finished.stdout + finished.stderr
    assert report(tmp_path) == report(smoke.runs)
