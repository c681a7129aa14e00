"""What a task of a local run tells its runner: its output, events while it runs, and how it ended."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from common.contracts.base import read
from common.log import EVENTS, TASK_VARIABLE
from common.runtime.record import NO_MEMORY, PROGRAM, RECORD, StageRecord, shortened

_INPUT = "--executor_input"
_START = "python3 -m kfp.dsl.executor_main"
"""Part of kfp's script that starts Python, in one element of a command."""


class Watch:
    """A task that is to run; its own text goes to standard output, its events to the terminal.

    Args:
        command: kfp's command, which names the folder of the task's outputs.

    Attributes:
        folder: of the task's outputs; None = the command is none of kfp's, so that only its output is shown.
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

    def end(self, status: int) -> tuple[float, str]:
        """Seconds that the task spent inside models, and in one line why it failed; empty = it did not.

        Args:
            status: exit status of the process, or of the shell around it; negative = the signal that ended it.
        """
        self._show()
        path = None if self.folder is None else self.folder / RECORD
        record = read(StageRecord, path) if path is not None and path.is_file() else None
        if status == 0:
            return (record.model_seconds if record else 0.0), ""
        number = -status if status < 0 else status - 128
        if number in signal.valid_signals():
            told = f"the process was ended by {signal.Signals(number).name}"
            return 0.0, f"{told}; {NO_MEMORY}" if number == signal.SIGKILL else told
        if record is not None and record.error:
            return record.model_seconds, record.error
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
