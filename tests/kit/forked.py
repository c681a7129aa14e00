"""Runs of the pipeline whose tasks are forks of this process, which has imported the libraries already.

Everything else is as users have it: the command, the compiled pipeline, KFP's local runner and its executor in a process
of each task. Importing the libraries anew for each task takes most of a run on tiny models.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.kit.once import Compiled


def in_fork(call: Callable[[], int], output: int | None = None) -> int:
    """Exit status of `call` in a fork of this process, which leaves this one as it was.

    Args:
        output: file descriptor for what it prints; None = that of this process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        if output is not None:
            os.dup2(output, 1)
            os.dup2(output, 2)
        # Those of pytest and of KFP's runner write elsewhere.
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)
        status = call()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def run_task(_: Any, command: list[str], variables: Mapping[str, str], watch: Any) -> int:
    """Run a task of KFP's local runner in a fork and print its output; in the place of `Tasks.run`."""
    source, arguments = command[3], command[4:]

    def execute() -> int:
        from kfp.dsl.executor_main import executor_main

        os.environ |= {**variables, "_KFP_RUNTIME": "true"}
        module = Path(tempfile.mkdtemp()) / "ephemeral_component.py"
        module.write_text(source, encoding="utf-8")
        sys.argv = ["executor_main", "--component_module_path", str(module), *arguments]
        executor_main()
        return 0

    with tempfile.TemporaryFile() as output:
        status = in_fork(execute, output.fileno())
        output.seek(0)
        print(output.read().decode(errors="replace"))
    return status


def run_command(command: list[str], compiled: Compiled, printed: Path) -> int:
    """Run a command in a fork whose tasks are forks; exit status.

    Args:
        command: as after `python -m pipelines`.
        printed: file for its output.
    """

    def call() -> int:
        from pipelines.commands import main

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pipelines.local.tasks.Tasks.run", run_task)
            patch.setattr("pipelines.local.run.compile_pipeline", lambda _, pipeline: compiled.path())
            return main(command)

    compiled.path()
    with printed.open("wb") as file:
        return in_fork(call, file.fileno())
