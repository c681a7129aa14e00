"""Stages in their own images: what they may do, and that a failure is a failure."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from common.errors import ConfigError
from components.catalogue import STAGES, layer_of
from components.catalogue import local_image as image
from tests.containers.conftest import Build, limits, run

ROOT = Path(__file__).resolve().parents[2]
ONE_OF_EACH_LAYER = ("prepare_dataset", "augment_captions", "align_t2a", "train_classifier", "pretrain_t2a")
"""Stages that between them have every layer of dependencies."""
CANARY = "sk-CANARY-containers-7d20"
PROBE = """
import json, os, socket
facts = {"uid": os.getuid(), "capabilities": open("/proc/self/status").read().split("CapEff:")[1].split()[0]}
def attempt(action):
    try:
        action()
        return True
    except OSError:
        return False
facts["writes_app"] = attempt(lambda: open("/app/x", "w"))
facts["writes_tmp"] = attempt(lambda: open("/tmp/x", "w"))
facts["network"] = attempt(lambda: socket.create_connection(("192.0.2.1", 80), 0.5)) or len(socket.if_nameindex()) > 1
print("FACTS" + json.dumps(facts))
"""


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_unprivileged_without_network_on_a_read_only_root(
    engine: Any, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = f"import components.{stage}.run\n{PROBE}"
    assert run(engine, image(stage), ["python", "-c", code], {}, **limits()) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("FACTS"))
    facts = json.loads(line.removeprefix("FACTS"))
    assert facts["uid"] != 0 and int(facts["capabilities"], 16) == 0
    assert facts["writes_tmp"] and not facts["writes_app"] and not facts["network"]


@pytest.mark.parametrize("status", [0, 3, 137])
def test_the_exit_status_of_a_container_is_the_tasks(engine: Any, status: int) -> None:
    command = ["python", "-c", f"raise SystemExit({status})"]
    assert run(engine, image("plan"), command, {}, **limits()) == status


def test_an_image_that_is_not_there_is_named_with_the_command_that_builds_it(engine: Any) -> None:
    with pytest.raises(ConfigError, match="make images"):
        run(engine, "localhost/synthio/none:dev", ["true"], {}, **limits())


def test_an_image_tells_what_is_in_it(engine: Any) -> None:
    container = engine.containers.create(image("align_t2a"), ["true"])
    try:
        stream, _ = container.get_archive("/opt/sbom/python.cdx.json")
        packed = io.BytesIO(b"".join(stream))
    finally:
        container.remove(force=True)
    with tarfile.open(fileobj=packed) as archive:
        member = archive.extractfile("python.cdx.json")
        assert member is not None
        bill = json.load(member)
    assert bill["bomFormat"] == "CycloneDX"
    assert {"torch", "diffusers", "kfp", "numpy"} <= {component["name"].lower() for component in bill["components"]}
    labels = engine.images.get(image("align_t2a")).labels
    assert labels["org.opencontainers.image.revision"] and labels["org.opencontainers.image.version"]


@pytest.mark.parametrize("stage", ONE_OF_EACH_LAYER)
def test_a_stages_own_tests_pass_in_its_image(engine: Any, build: Build, stage: str) -> None:
    name = build("test", layer_of(stage), f"test-on-{layer_of(stage)}")
    command = ["python", "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", f"tests/stages/test_{stage}.py"]
    assert run(engine, name, command, {}, **limits()) == 0


def test_the_whole_smoke_run_works_in_containers_and_leaves_no_key_anywhere(engine: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipelines", "run-pipeline", "--preset", "smoke", "--seeds", "1"]
    command += ["--runs", str(tmp_path / "runs"), "--runner", "docker"]
    keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"), CANARY)
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **keys, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    run = json.loads((tmp_path / "runs" / "latest" / "run.json").read_text())
    assert {row["state"] for row in run["stages"]} == {"succeeded"}
    files = [path for path in [*tmp_path.rglob("*"), ROOT / "build" / "synthio.yaml"] if path.is_file()]
    assert len(files) > 100 and not [path for path in files if CANARY.encode() in path.read_bytes()]
    assert CANARY not in done.stdout + done.stderr
