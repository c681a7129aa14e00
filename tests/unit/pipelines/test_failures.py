"""The reason for a task's failure, read from real processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipelines.local.failures import LONGEST, FailureReader

CASES = {
    "an expected error": (
        "from common.errors import DataError\nraise DataError('no audio in /x; give a folder')",
        "DataError: no audio in /x; give a folder",
    ),
    "an unexpected error": ("{}['label']", "KeyError: 'label'"),
    "a name without Error in it": ("import queue\nraise queue.Empty", "Empty, raised in <string>, line 2"),
    "a class of a function": (
        "def f():\n  class Trouble(Exception): pass\n  raise Trouble('within')\nf()",
        "Trouble: within",
    ),
    "no message": ("x = 1\nassert False", "AssertionError, raised in <string>, line 2"),
    "no memory": ("raise MemoryError", "MemoryError, raised in <string>, line 1; most often the machine ran out of"),
    "several lines": (
        "raise RuntimeError('loading:\\n\\tmissing a.b\\n\\tsize of c')",
        "RuntimeError: loading: missing a.b size of c",
    ),
    "other letters": ("raise ValueError('Größe … 音')", "ValueError: Größe … 音"),
    "a cause": ("try:\n  1 / 0\nexcept ArithmeticError as e:\n  raise OSError('outer') from e", "OSError: outer"),
    "an error in its handling": ("try:\n  1 / 0\nexcept ArithmeticError:\n  raise OSError('later')", "OSError: later"),
    "a group": (
        "raise ExceptionGroup('both', [ValueError('one'), ExceptionGroup('in', [KeyError('two')])])",
        "ExceptionGroup: both (2 sub-exceptions): ValueError: one; KeyError: 'two'",
    ),
    "a group of raised ones": (
        "errors = []\ntry:\n  1 / 0\nexcept ArithmeticError as e:\n  errors.append(e)\nraise ExceptionGroup('all', errors)",
        "ExceptionGroup: all (1 sub-exception): ZeroDivisionError: division by zero",
    ),
    "a group, then another error": (
        "try:\n  raise ExceptionGroup('g', [ValueError('one')])\nexcept* ValueError as e:\n  pass\nraise OSError('after')",
        "OSError: after",
    ),
    "another one that is ignored at the end": (
        "class A:\n  def __del__(self): raise AttributeError('late')\na = A()\nraise ValueError('the true one')",
        "ValueError: the true one",
    ),
    "another one that was logged before": (
        "import logging\ntry:\n  1 / 0\nexcept ArithmeticError:\n  logging.exception('no matter')\nraise OSError(28, 'full', '/x')",
        "OSError: [Errno 28] full: '/x'",
    ),
    "a worker's error": (
        "from concurrent.futures import ProcessPoolExecutor\n"
        "with ProcessPoolExecutor(1) as pool: pool.submit(int, 'x').result()",
        "ValueError: invalid literal for int() with base 10: 'x'",
    ),
    "a worker that was killed": (
        "import os\nfrom concurrent.futures import ProcessPoolExecutor\n"
        "with ProcessPoolExecutor(1) as pool: pool.submit(os._exit, 9).result()",
        "most often the machine ran out of memory",
    ),
    "no traceback": ("import sys\nsys.exit('no disk')", "the process ended with status 1, last line: no disk"),
    "no word": ("import sys\nsys.exit(3)", "the process ended with status 3, last line: none"),
    "out of memory": (
        "import os\nos.kill(os.getpid(), 9)",
        "the process was ended by SIGKILL; most often the machine ran",
    ),
    "a crash in C": ("import os\nos.kill(os.getpid(), 11)", "the process was ended by SIGSEGV"),
    "a crash after a handled error": (
        "import logging, os\nlogging.exception('x', exc_info=ValueError('old'))\nos.kill(os.getpid(), 6)",
        "the process was ended by SIGABRT",
    ),
}


def reason(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8")
    reader = FailureReader()
    for start in range(0, len(done.stdout), 7):
        reader.read(done.stdout[start : start + 7])
    return reader.reason(done.returncode)


@pytest.mark.parametrize(("code", "expected"), CASES.values(), ids=CASES.keys())
def test_the_error_that_ended_a_process_is_named(code: str, expected: str) -> None:
    found = reason([sys.executable, "-X", "utf8", "-c", code])
    assert expected in found and (found == expected or "ran" in expected) and "\n" not in found


def test_a_shell_around_the_process_changes_nothing() -> None:
    assert "SIGKILL" in reason(["sh", "-c", f"{sys.executable} -c 'import os; os.kill(os.getpid(), 9)'; exit $?"])
    assert reason(["sh", "-c", "no-such-command"]).startswith("the process ended with status 127, last line: sh: ")


def test_a_process_that_succeeded_has_no_reason() -> None:
    code = "import logging\nlogging.exception('x', exc_info=ValueError('handled'))"
    assert reason([sys.executable, "-c", code]) == ""


def test_a_long_message_is_shortened() -> None:
    assert len(reason([sys.executable, "-c", "raise ValueError('x' * 5000)"])) == LONGEST


def test_the_processes_of_torchrun_are_understood() -> None:
    reader = FailureReader()
    reader.read(
        '[rank0]: Traceback (most recent call last):\n[rank0]:   File "x.py", line 1, in f\n[rank0]: OSError: no\n'
    )
    assert reader.reason(1) == "OSError: no"
