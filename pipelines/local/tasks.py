"""Tasks of a local run: how they are started, what they tell while they run, how they ended, and signals that end all.

kfp's local runner leaves the tasks of an interrupted run behind: it waits for none of them when only the runner is
signalled, and a thread of its loops waits until its task ends by itself. Here each task runs in its own session, which
is signalled as a whole. A runner killed by SIGKILL cannot end its task, which then runs to its end.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from common.contracts.base import read
from common.log import EVENTS, TASK_VARIABLE
from common.runtime.record import NO_MEMORY, PROGRAM, RECORD, StageRecord, shortened
from pipelines.local.warm import Warm

GRACE_S = 10.0
"""Seconds between SIGTERM and SIGKILL, to save a checkpoint."""
_INPUT = "--executor_input"
_START = "python3 -m kfp.dsl.executor_main"
"""Part of kfp's script that starts Python, in one element of a command."""


class Stopped(KeyboardInterrupt):
    """A signal ended the run; `status` is the exit status that shells expect, 128 + signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


class Tasks:
    """Processes of tasks, which a signal ends."""

    def __init__(self) -> None:
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

    def run(self, command: list[str], variables: Mapping[str, str], watch: Watch) -> int:
        """Run one task, whose output `watch` takes, and return its exit status.

        Its environment has these `variables` besides those of this process.

        Raises Stopped: a signal came before or during the task; none of its processes is left.
        """
        if self._stopped:
            raise self._stopped
        environment = os.environ | variables
        process = self._warm.start(command, environment) or subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
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
                watch.follow(process.stdout)
            except Stopped:
                # Read until the last process of the task has closed the output.
                watch.follow(process.stdout)
                raise
        finally:
            status = process.wait()
            self._groups.discard(process.pid)
        if self._stopped:
            raise self._stopped
        print("\n")
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
            with suppress(ProcessLookupError):
                os.killpg(group, number)


TASKS = Tasks()
"""One object, since signal handlers are per process."""


class Watch:
    """A task that is to run; its own text goes to standard output, its events to the terminal.

    Attributes:
        folder: of the task's outputs, as kfp's command names it; None = another command, whose output alone is shown.
        variables: environment variables that tell the task where to leave events and record.
    """

    def __init__(self, command: Sequence[str], terminal: TextIO) -> None:
        self.folder, self.variables = _folder(command), dict[str, str]()
        self._terminal, self._shown, self._tail = terminal, 0, ""
        if self.folder is not None:
            self.variables = {TASK_VARIABLE: str(self.folder)}
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in (EVENTS, RECORD):
                (self.folder / name).unlink(missing_ok=True)

    def take(self, text: str) -> None:
        """Print a piece of the task's output, and on the terminal the events that came before it."""
        print(text, end="")
        self._tail = (self._tail + text)[-4 * 600 :]
        self._show()

    def follow(self, output: Iterable[str] | None) -> None:
        """Print all that comes."""
        for text in output or ():
            self.take(text)

    def end(self, status: int) -> tuple[float, str]:
        """Seconds that the task spent inside models, and in one line why it failed; empty = it did not.

        Args:
            status: exit status of the process, or of the shell around it; negative = the signal that ended it.
        """
        self._show()
        path = None if self.folder is None else self.folder / RECORD
        record = read(StageRecord, path) if path is not None and path.is_file() else None
        inside = record.model_seconds if record else 0.0
        if status == 0:
            return inside, ""
        number = -status if status < 0 else status - 128
        if number in signal.valid_signals():
            told = f"the process was ended by {signal.Signals(number).name}"
            return 0.0, f"{told}; {NO_MEMORY}" if number == signal.SIGKILL else told
        if record is not None and record.error:
            return inside, record.error
        last = next((line.strip() for line in reversed(self._tail.splitlines()) if line.strip()), "none")
        return 0.0, shortened(f"the process ended with status {status}, last line: {last}")

    def _show(self) -> None:
        path = None if self.folder is None else self.folder / EVENTS
        if path is not None and path.is_file():
            with path.open("rb") as file:
                file.seek(self._shown)
                new = file.read()
            self._shown += len(new)
            self._terminal.write(new.decode("utf-8", errors="replace"))
            self._terminal.flush()


def _folder(command: Sequence[str]) -> Path | None:
    if _INPUT not in command:
        return None
    given = json.loads(command[command.index(_INPUT) + 1])
    return Path(given["outputs"]["outputFile"]).parent


def with_interpreter(command: Sequence[str], interpreter: str) -> list[str]:
    """Let kfp's script start our executor by this interpreter, and leave the rest of the command as it is.

    Replaces kfp's `replace_python_executable`, which replaces the word `python3` in every argument (kubeflow/pipelines,
    pull request 14459).
    """
    started = f"{shlex.quote(interpreter)} -m {PROGRAM}"
    place = next((index for index, part in enumerate(command) if _START in part), None)
    return [part.replace(_START, started, 1) if index == place else part for index, part in enumerate(command)]


def stage_of(task: str) -> str:
    """Stage of a task of kfp's: `synthesize-audio` of `comp-synthesize-audio-2`."""
    return task.removeprefix("comp-").rstrip("-0123456789")


def numbered(name: str, count: Counter[str]) -> str:
    """A task's name among those of its run: `synthesize-audio`, `synthesize-audio-2`, … `count` goes on."""
    count[name] += 1
    return name if count[name] == 1 else f"{name}-{count[name]}"


@contextmanager
def replaced(owner: Any, **functions: Callable[..., Any]) -> Iterator[None]:
    """Context in which these functions of a module or class are others: kfp's local runner has no hooks."""
    before = {name: getattr(owner, name) for name in functions}
    for name, function in functions.items():
        setattr(owner, name, function)
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(owner, name, function)
