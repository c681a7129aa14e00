"""How a task ended, told by its record or by real processes."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from common.contracts.base import write
from common.errors import DataError
from common.log import EVENTS, TASK_VARIABLE
from common.runtime.record import LONGEST, RECORD, StageRecord, reason
from pipelines.local.tasks import Watch, with_interpreter


def fail(error: BaseException, cause: BaseException | None = None) -> Callable[[], None]:
    def raising() -> None:
        raise error from cause

    return raising


def broken_pool() -> None:
    with ProcessPoolExecutor(1) as pool:
        pool.submit(os._exit, 9).result()


HERE = f"raised in {__file__}, line "
CASES = {
    "an expected error": (fail(DataError("no audio in /x; give a folder")), "DataError: no audio in /x; give a folder"),
    "an unexpected error": (fail(KeyError("label")), "KeyError: 'label'"),
    "no message": (fail(AssertionError()), f"AssertionError, {HERE}"),
    "no memory": (fail(MemoryError()), f"MemoryError, {HERE}"),
    "no space": (
        fail(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
        "OSError: [Errno 28] No space left on device; free some space, also for temporary files (TMPDIR), and run",
    ),
    "several lines": (
        fail(RuntimeError("loading:\n\tmissing a.b\n\tsize of c")),
        "RuntimeError: loading: missing a.b size of c",
    ),
    "other letters": (fail(ValueError("Größe … 音")), "ValueError: Größe … 音"),
    "a cause": (fail(OSError("outer"), ZeroDivisionError("inner")), "OSError: outer"),
    "a group": (
        fail(ExceptionGroup("both", [ValueError("one"), ExceptionGroup("in", [KeyError("two")])])),
        "ExceptionGroup: both (2 sub-exceptions): ValueError: one; KeyError: 'two'",
    ),
    "a worker that was killed": (broken_pool, "BrokenProcessPool: A process in the process pool was terminated"),
}


@pytest.mark.parametrize(("raising", "expected"), CASES.values(), ids=CASES.keys())
def test_the_error_that_ended_a_task_is_named_in_one_line(raising: Callable[[], None], expected: str) -> None:
    with pytest.raises(Exception) as caught:
        raising()
    found = reason(caught.value)
    assert found.startswith(expected) and "\n" not in found
    memory = isinstance(caught.value, MemoryError) or "BrokenProcessPool" in found
    assert found.endswith("smaller preset or N") == memory


def test_a_long_message_is_shortened() -> None:
    assert len(reason(ValueError("x" * 5000))) == LONGEST


def watch(folder: Path, terminal: io.StringIO | None = None) -> Watch:
    given = {"outputs": {"outputFile": str(folder / "executor_output.json")}}
    return Watch(["sh", "--executor_input", json.dumps(given)], terminal or io.StringIO())


def ended(folder: Path, command: list[str]) -> str:
    """Run a command without a record; returns why it failed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8")
    watched = watch(folder)
    for start in range(0, len(done.stdout), 7):
        watched.take(done.stdout[start : start + 7])
    return watched.end(done.returncode)[1]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import sys; sys.exit('no disk')", "the process ended with status 1, last line: no disk"),
        ("import sys; sys.exit(3)", "the process ended with status 3, last line: none"),
        (
            "import nowhere",
            "the process ended with status 1, last line: ModuleNotFoundError: No module named 'nowhere'",
        ),
        ("import os; os.kill(os.getpid(), 9)", "the process was ended by SIGKILL; most often the machine ran out"),
        ("import os; os.kill(os.getpid(), 11)", "the process was ended by SIGSEGV"),
        ("pass", ""),
    ],
)
def test_a_process_that_left_no_record_is_told_by_its_status_and_last_line(
    tmp_path: Path, code: str, expected: str
) -> None:
    found = ended(tmp_path, [sys.executable, "-X", "utf8", "-c", code])
    assert found.startswith(expected) and bool(found) == bool(expected)


def test_a_shell_around_the_process_changes_nothing(tmp_path: Path) -> None:
    killed = f"{sys.executable} -c 'import os; os.kill(os.getpid(), 9)'; exit $?"
    assert "SIGKILL" in ended(tmp_path, ["sh", "-c", killed])
    assert ended(tmp_path, ["sh", "-c", "no-such-command"]).startswith(
        "the process ended with status 127, last line: sh: "
    )


def test_a_record_tells_time_inside_models_and_the_error_and_an_earlier_one_does_not_count(tmp_path: Path) -> None:
    record = StageRecord(stage="x", outcome="succeeded", seconds=3.0, model_seconds=2.25)
    write(tmp_path / RECORD, record)
    assert watch(tmp_path).end(0) == (0.0, "")
    watched = watch(tmp_path)
    write(tmp_path / RECORD, record)
    assert watched.end(0) == (2.25, "")
    write(tmp_path / RECORD, record.model_copy(update={"outcome": "failed", "error": "DataError: no clips"}))
    assert watched.end(1) == (2.25, "DataError: no clips")


def test_the_terminal_shows_events_and_standard_output_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / EVENTS).write_text("  earlier: run\n")
    terminal = io.StringIO()
    watched = watch(tmp_path, terminal)
    watched.take("noise of kfp\n")
    code = "from common.log import event, get_logger\nevent(get_logger('align_t2a'), 'kept', step=3, why='ä b')"
    variables = {**os.environ, **watched.variables, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    assert watched.variables == {TASK_VARIABLE: str(tmp_path)}
    watched.take(done.stderr)
    watched.end(0)
    assert terminal.getvalue() == "  align_t2a: kept step=3 why='ä b'\n"
    said = capsys.readouterr().out
    line = r"noise of kfp\n\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} INFO synthio.align_t2a event=kept step=3 why='ä b'\n"
    assert re.fullmatch(line, said), "a log of days tells the day, and is compared with those of other machines"


def test_only_the_start_of_kfps_executor_is_replaced() -> None:
    script = 'printf "$0" > x.py; _KFP_RUNTIME=true python3 -m kfp.dsl.executor_main --component_module_path x.py "$@"'
    command = ["sh", "-ec", script, "import python3  # python3 -m x", "--executor_input", '{"runs": "/python3"}']
    found = with_interpreter(command, "/an env/python3")
    started = script.replace("python3 -m kfp.dsl.executor_main", "'/an env/python3' -m common.runtime.record")
    assert found == [*command[:2], started, *command[3:]]
