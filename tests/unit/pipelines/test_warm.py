"""Tasks of a run are forked from one process, and are like those of a fresh interpreter."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from pipelines.local import warm
from pipelines.local.warm import Task, Warm

SCRIPT = "_KFP_RUNTIME=true python3 -m common.runtime.record"
SOURCE = """
def {stage}(mode: str) -> str:
    import json, os, sys
    from pathlib import Path
    if mode == "fail":
        print("about to fail: \\u00e9")
        raise ValueError("as it was told")
    if mode == "kill":
        os.kill(os.getpid(), 9)
    if mode == "exit":
        sys.exit(7)
    if mode == "leave":
        import atexit, concurrent.futures, time
        atexit.register(lambda: Path("left").write_text("tidied"))
        pool = concurrent.futures.ThreadPoolExecutor(1)
        pool.submit(lambda: (time.sleep(0.2), Path("late").write_text("written")))
    Path("seen.json").write_text(json.dumps({{
        "pid": os.getpid(), "session": os.getsid(0), "parent": os.getppid(), "library": "colorsys" in sys.modules,
        "variables": dict(os.environ), "folder": os.getcwd(), "stdin": os.read(0, 9).decode(),
    }}))
    return mode
"""


@pytest.fixture
def process() -> Iterator[Warm]:
    made = Warm(libraries=("colorsys",))
    yield made
    made._end()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(warm, "_DEVICES", ())
    return tmp_path


def command(mode: str, stage: str = "train_classifier") -> list[str]:
    outputs = {
        "parameters": {"Output": {"outputFile": f"{Path.cwd()}/out.txt"}},
        "outputFile": f"{Path.cwd()}/outputs.json",
    }
    executor_input = {"inputs": {"parameterValues": {"mode": mode}}, "outputs": outputs}
    arguments = ["--executor_input", json.dumps(executor_input), "--function_to_execute", stage]
    return ["sh", "-ec", SCRIPT, SOURCE.format(stage=stage), *arguments]


def run(process: Warm, mode: str, stage: str = "train_classifier", **variables: str) -> tuple[int, str]:
    task = process.start(command(mode, stage), os.environ | variables)
    assert task is not None
    output = task.stdout.read()
    return task.wait(), output


def seen() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("seen.json").read_text())
    return found


def test_tasks_share_the_imports_of_one_process_and_nothing_else(process: Warm, folder: Path) -> None:
    rows = []
    for value in ("first", "second"):
        assert run(process, "work", ONLY=value)[0] == 0
        assert json.loads(Path("outputs.json").read_text())["parameterValues"] == {"Output": "work"}
        rows.append(seen())
    assert rows[0]["parent"] == rows[1]["parent"] != os.getpid() and rows[0]["pid"] != rows[1]["pid"]
    for row, value in zip(rows, ("first", "second"), strict=True):
        assert row["library"] and row["session"] == row["pid"] and row["stdin"] == ""
        assert (
            row["variables"] == {**os.environ, "ONLY": value, "_KFP_RUNTIME": "true"} and Path(row["folder"]) == folder
        )


@pytest.mark.parametrize(
    ("mode", "status", "words"),
    [("fail", 1, ["about to fail: é", "ValueError: as it was told"]), ("kill", -signal.SIGKILL, []), ("exit", 7, [])],
)
def test_a_task_that_ends_badly_says_so_and_the_next_one_runs(
    process: Warm, mode: str, status: int, words: list[str]
) -> None:
    found, output = run(process, mode)
    assert found == status and all(word in output for word in words)
    assert run(process, "work")[0] == 0


def test_a_task_waits_for_its_threads_and_tidies_up_as_an_interpreter_does(process: Warm) -> None:
    assert run(process, "leave")[0] == 0
    assert Path("late").read_text() == "written" and Path("left").read_text() == "tidied"


def sleeping(process: Warm) -> Task:
    """A task that has begun and never ends by itself."""
    source = "def report(mode: str) -> str:\n    import time\n    print('here', flush=True)\n    time.sleep(300)\n"
    arguments = command("work", "report")
    task = process.start([*arguments[:3], source, *arguments[4:]], os.environ)
    assert task is not None and "here\n" in iter(task.stdout.readline, "")
    return task


def test_a_signal_to_a_tasks_group_ends_it_and_not_the_process(process: Warm) -> None:
    task = sleeping(process)
    os.killpg(task.pid, signal.SIGTERM)
    assert task.wait() == -signal.SIGTERM
    assert run(process, "work")[0] == 0


def test_a_second_task_at_the_same_time_gets_a_fresh_interpreter(process: Warm) -> None:
    first = process.start(command("work"), os.environ)
    assert first is not None and process.start(command("work"), os.environ) is None
    assert first.wait() == 0
    assert run(process, "work")[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        ["python", "-c", "pass"],
        ["sh", "-ec", "echo", "def report(): ...", "--function_to_execute"],
        command("work", "of_a_user"),
    ],
)
def test_other_commands_start_no_process(process: Warm, words: list[str]) -> None:
    assert process.start(words, os.environ) is None and process._process is None


def test_a_stage_without_models_waits_for_no_import_and_uses_the_process_once_it_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_library.py").write_text("import time\ntime.sleep(3)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    process = Warm(libraries=("slow_library",))
    try:
        assert process.start(command("work", "plan"), os.environ) is None
        importing = process._process
        assert importing is not None and importing.poll() is None
        assert run(process, "work")[0] == 0
        assert run(process, "work", "plan")[0] == 0
        assert process._process is importing
    finally:
        process._end()


def test_with_a_gpu_every_task_gets_a_fresh_interpreter(process: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "_DEVICES", ("/dev/null",))
    assert process.start(command("work"), os.environ) is None and process._process is None


def test_a_library_that_is_not_there_leaves_fresh_interpreters() -> None:
    broken = Warm(libraries=("no_such_library",))
    assert broken.start(command("work"), os.environ) is None
    assert broken.start(command("work"), os.environ) is None and broken._process is None


def test_when_the_process_is_killed_its_task_counts_as_killed_and_later_ones_run_afresh(process: Warm) -> None:
    task = sleeping(process)
    assert process._process is not None
    process._process.kill()
    assert task.wait() == -signal.SIGKILL
    os.killpg(task.pid, signal.SIGKILL)
    assert process.start(command("work"), os.environ) is None


def test_the_process_ends_with_its_run(folder: Path) -> None:
    program = (
        "import os, sys\n"
        "from pipelines.local.warm import Warm\n"
        "process = Warm(libraries=())\n"
        f"task = process.start({command('work')!r}, os.environ)\n"
        "task.wait()\n"
        "print(process._process.pid, flush=True)\n"
        "sys.stdin.read()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as ran:
        assert ran.stdin is not None and ran.stdout is not None
        ended = os.pidfd_open(int(ran.stdout.readline()))
        ran.stdin.close()
    assert select.select([ended], [], [], 60)[0], "it is still there"
    os.close(ended)


def test_a_run_that_ends_while_libraries_are_imported_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_library.py").write_text("import time\ntime.sleep(1)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    own, other = Pipe()
    with other:
        started = subprocess.Popen(
            [sys.executable, "-m", "pipelines.local.warm_process", "slow_library"],
            stdin=other.fileno(),
            stderr=subprocess.PIPE,
        )
    own.close()
    assert started.communicate(timeout=60)[1] == b"" and started.returncode == 0


def test_every_library_and_stage_that_is_named_exists() -> None:
    for library in warm.LIBRARIES:
        top, *rest = library.split(".")
        found = find_spec(top)
        assert found is not None and found.origin is not None
        place = Path(found.origin).parent.joinpath(*rest)
        assert place.is_dir() or place.with_suffix(".py").is_file(), library
