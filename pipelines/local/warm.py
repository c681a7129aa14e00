"""Tasks of a local run without a GPU, forked from one process that has imported the model libraries.

A fresh interpreter spends seconds on importing torch, transformers and diffusers, two dozen times a run. Each task is
still a process of its own, in its own session and with its own output.

With a GPU every task gets a fresh interpreter: CUDA fails in a process whose parent has asked for devices, which a
library may do while it is imported.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import send_handle
from pathlib import Path
from typing import IO

from common.runtime.record import PROGRAM
from components.catalogue import LAYERS, STAGES

LIBRARIES = (
    "torch",
    "scipy.signal",
    "sklearn.metrics",
    "transformers.models.audio_spectrogram_transformer.modeling_audio_spectrogram_transformer",
    "transformers.models.clap.modeling_clap",
    "transformers.models.t5.modeling_t5",
    "diffusers.pipelines.stable_audio.pipeline_stable_audio",
    "peft",
    "kfp.dsl.executor_main",
)
_DEVICES = ("/dev/nvidiactl", "/dev/kfd")
_RUNTIME = {"_KFP_RUNTIME": "true"}
"""As kfp's script sets it: else importing kfp, in a task or in a process that it spawns, imports the whole SDK."""
_STAGE = "--function_to_execute"


class Task:
    """A running task, with what `subprocess.Popen` has of a process; it leads its session and group."""

    def __init__(self, pid: int, stdout: IO[str], connection: Connection, busy: threading.Lock) -> None:
        self.pid, self.stdout = pid, stdout
        self.returncode: int | None = None
        self._connection, self._busy = connection, busy

    def wait(self) -> int:
        """Wait for the task's end and return its exit status."""
        if self.returncode is None:
            found = _number(self._connection, "status")
            self.returncode = -signal.SIGKILL if found is None else found
            self.stdout.close()
            self._busy.release()
        return self.returncode


class Warm:
    """The warm process of this one, which the first stage starts: it imports while stages without models work."""

    def __init__(self, libraries: Sequence[str] = LIBRARIES) -> None:
        self._libraries = libraries
        # The warm process runs one task at a time.
        self._busy = threading.Lock()
        self._broken = self._ready = False
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def start(self, command: Sequence[str], variables: Mapping[str, str]) -> Task | None:
        """Start a task, whose whole environment is `variables`; None where it takes a fresh interpreter.

        kfp's command of a lightweight component is `sh`, `-ec`, script, source, arguments.
        """
        stage = _stage(command)
        if self._broken or stage is None or not self._busy.acquire(blocking=False):
            return None
        task, kept = None, False
        try:
            connection = self._open(variables)
            # A stage without models starts faster by itself than the libraries are imported.
            kept = stage in LAYERS["base"] and not self._ready and not connection.poll()
            if not kept:
                task = self._start(connection, command, variables)
        except (OSError, ValueError):
            # Whatever hinders it, a fresh interpreter works.
            self._broken = True
        finally:
            if task is None:
                if not kept:
                    self._end()
                self._busy.release()
        return task

    def _start(self, connection: Connection, command: Sequence[str], variables: Mapping[str, str]) -> Task:
        self._ready = self._ready or _number(connection, "ready") is not None
        request = {"source": command[3], "arguments": list(command[4:]), "folder": str(Path.cwd())}
        connection.send({**request, "variables": {**variables, **_RUNTIME}})
        reading, writing = os.pipe()
        stdout = os.fdopen(reading, encoding="utf-8", errors="backslashreplace", buffering=1)
        try:
            send_handle(connection, writing, None)
        finally:
            os.close(writing)
        pid = _number(connection, "pid")
        if pid is None:
            raise ValueError("the warm process ended")
        return Task(pid, stdout, connection, self._busy)

    def _open(self, variables: Mapping[str, str]) -> Connection:
        if self._connection is None:
            self._connection, other = Pipe()
            with other:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "pipelines.local.warm_process", *self._libraries],
                    stdin=other.fileno(),
                    env={**variables, **_RUNTIME},
                    start_new_session=True,
                )
        return self._connection

    def _end(self) -> None:
        """End the warm process, and a task that it had just begun."""
        if self._process is not None and self._connection is not None:
            self._process.kill()
            self._process.wait()
            pid = _number(self._connection, "pid")
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            self._connection.close()
        self._process = self._connection = None
        self._ready = False


def _stage(command: Sequence[str]) -> str | None:
    """Stage of kfp's command; None where the task takes a fresh interpreter in any case."""
    if len(command) < 4 or PROGRAM not in command[2] or any(Path(device).exists() for device in _DEVICES):
        return None
    stage = command[command.index(_STAGE) + 1] if _STAGE in command else ""
    return stage if stage in STAGES else None


def _number(connection: Connection, kind: str) -> int | None:
    """Number in the next message, which must be of `kind`; None where the warm process ended."""
    with contextlib.suppress(EOFError, OSError):
        found, number = connection.recv()
        return int(number) if found == kind else None
    return None
