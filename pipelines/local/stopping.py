"""SIGINT, SIGTERM and SIGHUP end a local run at once, and every process that its tasks started.

kfp's local runner leaves the tasks of an interrupted run behind: it waits for none of them where the run is signalled
alone, and a thread of its loops waits until its task ends by itself. Here each task is a session of its own. A runner
that is killed (SIGKILL) can end no task: the one that runs ends by itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from types import FrameType

GRACE_S = 10.0
"""Until what has not ended after SIGTERM is killed: time to save a checkpoint."""


class Stopped(KeyboardInterrupt):
    """A signal ended the run; `status` is the exit status that shells expect of it, 128 + signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


class Tasks:
    """The processes of a run's tasks."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._stopped: Stopped | None = None

    def install(self) -> None:
        """Take the signals, also where a shell started this process in the background with SIGINT ignored."""
        self._stopped = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        # Under nohup it is ignored on purpose.
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._stop)

    def run(self, full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        """Run one task, print what it prints, return its exit status: in place of kfp's `run_local_subprocess`.

        Raises:
            Stopped: a signal came, before or while it ran; no process of the task is left.
        """
        if self._stopped:
            raise self._stopped
        variables = ["env", *(f"{name}={value}" for name, value in env_vars.items())] if env_vars else []
        process = subprocess.Popen(
            [*variables, *full_command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        self._groups.add(process.pid)
        try:
            if self._stopped:
                self._signal(signal.SIGTERM)
            try:
                _forward(process)
            except Stopped:
                # The output ends with the last process that writes to it.
                _forward(process)
                raise
        finally:
            process.wait()
            self._groups.discard(process.pid)
        if self._stopped:
            raise self._stopped
        print("\n")
        return process.returncode

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
"""Of this process: signals are received once per process."""


def _forward(process: subprocess.Popen[str]) -> None:
    for line in process.stdout or ():
        print(line, end="")
