"""Signal handling of a local run: SIGINT, SIGTERM and SIGHUP end it and every process that its tasks started.

kfp's local runner leaves the tasks of an interrupted run behind: it waits for none of them when only the runner is
signalled, and a thread of its loops waits until its task ends by itself. Here each task runs in its own session, which
is signalled as a whole. A runner killed by SIGKILL cannot end its task, which then runs to its end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from types import FrameType
from typing import TextIO

from pipelines.local.warm import Task, Warm
from pipelines.local.watch import Watch

GRACE_S = 10.0
"""Seconds between SIGTERM and SIGKILL, to save a checkpoint."""


class Stopped(KeyboardInterrupt):
    """A signal ended the run.

    Attributes:
        status: exit status that shells expect, 128 + signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


class Tasks:
    """Running processes of a run's tasks.

    Attributes:
        model_s: seconds that the task which ended last spent inside models. Tasks run one after another.
        failure: reason for which it failed; empty = it did not.
    """

    def __init__(self) -> None:
        self.variables: Mapping[str, str] = {}
        self.terminal: TextIO = sys.stdout
        self.model_s, self.failure = 0.0, ""
        self._warm = Warm()
        self._groups: set[int] = set()
        self._stopped: Stopped | None = None

    def install(self) -> None:
        """Install the signal handlers, even where a shell started this process in the background, ignoring SIGINT."""
        self._stopped = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        # nohup ignores SIGHUP on purpose.
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._stop)

    def run(self, full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        """Run one task, print its output, return its exit status; replaces kfp's `run_local_subprocess`.

        Raises Stopped: a signal came before or during the task; none of its processes is left.
        """
        if self._stopped:
            raise self._stopped
        watch = Watch(full_command, self.terminal)
        variables = os.environ | self.variables | (env_vars or {}) | watch.variables
        process = self._warm.start(full_command, variables) or subprocess.Popen(
            full_command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=variables,
            text=True,
            encoding="utf-8",
            # Libraries in C print file names as they are.
            errors="backslashreplace",
            bufsize=1,
            start_new_session=True,
        )
        self._groups.add(process.pid)
        try:
            if self._stopped:
                self._signal(signal.SIGTERM)
            try:
                _forward(process, watch)
            except Stopped:
                # Read until the last process of the task has closed the output.
                _forward(process, watch)
                raise
        finally:
            status = process.wait()
            self._groups.discard(process.pid)
        if self._stopped:
            raise self._stopped
        print("\n")
        self.model_s, self.failure = watch.end(status)
        return status

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._stopped:
            self._signal(signal.SIGKILL)
            return
        self._stopped = Stopped(number)
        self._signal(signal.SIGTERM)
        killer = threading.Timer(GRACE_S, self._signal, (signal.SIGKILL,))
        killer.daemon = True
        killer.start()
        raise self._stopped

    def _signal(self, number: int) -> None:
        for group in list(self._groups):
            try:
                os.killpg(group, number)
            except ProcessLookupError:
                continue


TASKS = Tasks()
"""The tasks of this process; one object, since signal handlers are per process."""


def _forward(process: subprocess.Popen[str] | Task, watch: Watch) -> None:
    for line in process.stdout or ():
        watch.take(line)
