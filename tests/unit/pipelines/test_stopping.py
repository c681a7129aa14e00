"""A signal ends a local run and all that it started."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

PIPELINE = """
import sys
from pathlib import Path
from kfp import dsl, local
from pipelines.local.observe import Observer
from pipelines.local.tasks import TASKS, Stopped

@dsl.component(base_image="python:3.11", install_kfp_package=False)
def slow(place: str, number: int) -> str:
    import os, subprocess, time
    from pathlib import Path
    child = subprocess.Popen(["sleep", "300"])
    Path(place, f"pids{number}.tmp").write_text(f"{os.getpid()} {child.pid}")
    Path(place, f"pids{number}.tmp").rename(Path(place, f"pids{number}"))
    time.sleep(300)
    return ""

@dsl.pipeline(name="looped")
def looped(place: str):
    with dsl.ParallelFor([1, 2], parallelism=1) as number:
        slow(place=place, number=number).set_retry(3, backoff_duration="60s")

@dsl.pipeline(name="plain")
def plain(place: str):
    slow(place=place, number=1)

place = sys.argv[2]
TASKS.install()
local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=place + "/kfp")
try:
    with Observer().watching():
        {"looped": looped, "plain": plain}[sys.argv[1]](place=place)
except Stopped as stopped:
    sys.exit(stopped.status)
"""


@pytest.mark.parametrize(
    ("kind", "number"), [("plain", signal.SIGINT), ("looped", signal.SIGTERM), ("plain", signal.SIGHUP)]
)
def test_a_signal_to_a_run_ends_it_and_leaves_no_process_behind(
    tmp_path: Path, kind: str, number: signal.Signals
) -> None:
    script = tmp_path / "pipeline.py"
    script.write_text(PIPELINE)
    root = Path(__file__).parents[3]
    run = subprocess.Popen(
        [sys.executable, str(script), kind, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A shell may have started the tests with SIGHUP ignored, as nohup does.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    # Ends a run that hangs before its task began, or does not stop.
    watchdog = threading.Timer(300, run.kill)
    watchdog.start()
    pids = tmp_path / "pids1"
    while not pids.exists() and run.poll() is None:
        time.sleep(0.05)
    run.send_signal(number)
    status = run.wait()
    watchdog.cancel()
    assert status == 128 + number
    assert not (tmp_path / "pids2").exists(), "no task may begin after the signal"
    assert not any(_alive(int(pid)) for pid in pids.read_text().split())


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
