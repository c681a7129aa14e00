"""Tasks of a local run without a GPU, forked from one process that has imported the model libraries.

A fresh interpreter spends seconds on importing torch, transformers and diffusers, two dozen times a run. Each task is
still a process of its own, in its own session and with its own output.

With a GPU every task gets a fresh interpreter: CUDA fails in a process whose parent has asked for devices, which a
library may do while it is imported.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
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
    """A running task, with what `subprocess.Popen` has of a process.

    Attributes:
        pid: process, which leads its session and group.
        stdout: its output and errors.
        returncode: exit status, negative for a signal, after `wait`.
    """

    def __init__(self, pid: int, stdout: IO[str], messages: IO[str], busy: threading.Lock) -> None:
        self.pid, self.stdout = pid, stdout
        self.returncode: int | None = None
        self._messages, self._busy = messages, busy

    def wait(self) -> int:
        """Wait for the task's end and return its exit status."""
        if self.returncode is None:
            found = _message(self._messages, "status")
            self.returncode = -signal.SIGKILL if found is None else found
            self.stdout.close()
            self._busy.release()
        return self.returncode


class Warm:
    """The warm process of this one, started by the first stage that runs: it imports while stages without models work.

    Args:
        libraries: modules that it imports.
    """

    def __init__(self, libraries: Sequence[str] = LIBRARIES) -> None:
        self._libraries = libraries
        # The warm process runs one task at a time.
        self._busy = threading.Lock()
        self._broken = False
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._messages: IO[str] | None = None
        self._ready = False

    def start(self, command: Sequence[str], variables: Mapping[str, str]) -> Task | None:
        """Start a task; None where it takes a fresh interpreter.

        Args:
            command: kfp's command of a lightweight component: `sh`, `-ec`, script, source, arguments.
            variables: the task's whole environment.
        """
        stage = _stage(command)
        if self._broken or stage is None or not self._busy.acquire(blocking=False):
            return None
        task, kept = None, False
        try:
            connection, messages = self._open(variables)
            # A stage without models starts faster by itself than the libraries are imported.
            kept = stage in LAYERS["base"] and not self._ready and not select.select([connection], [], [], 0)[0]
            if not kept:
                self._wait(messages)
                task = self._start(connection, messages, command, variables)
        except (OSError, ValueError):
            # Whatever hinders it, a fresh interpreter works.
            self._broken = True
        finally:
            if task is None:
                if not kept:
                    self._end()
                self._busy.release()
        return task

    def _start(
        self, connection: socket.socket, messages: IO[str], command: Sequence[str], variables: Mapping[str, str]
    ) -> Task:
        request = {
            "source": command[3],
            "arguments": list(command[4:]),
            "variables": {**variables, **_RUNTIME},
            "folder": str(Path.cwd()),
        }
        data = (json.dumps(request) + "\n").encode()
        reading, writing = os.pipe()
        stdout = os.fdopen(reading, encoding="utf-8", errors="backslashreplace", buffering=1)
        try:
            socket.send_fds(connection, [data[:1]], [writing])
            connection.sendall(data[1:])
        finally:
            os.close(writing)
        pid = _message(messages, "pid")
        if pid is None:
            raise ValueError("the warm process ended")
        return Task(pid, stdout, messages, self._busy)

    def _open(self, variables: Mapping[str, str]) -> tuple[socket.socket, IO[str]]:
        if self._connection is None or self._messages is None:
            self._connection, other = socket.socketpair()
            self._messages = self._connection.makefile(encoding="utf-8")
            with other:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "pipelines.local.warm_process", *self._libraries],
                    stdin=other.fileno(),
                    env={**variables, **_RUNTIME},
                    start_new_session=True,
                )
        return self._connection, self._messages

    def _wait(self, messages: IO[str]) -> None:
        """Wait until the libraries are imported."""
        if not self._ready and messages.readline() != "ready\n":
            raise ValueError("the warm process ended")
        self._ready = True

    def _end(self) -> None:
        """End the warm process, and a task that it had just begun."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._messages is not None and self._connection is not None:
            self._connection.shutdown(socket.SHUT_WR)
            pid = _message(self._messages, "pid")
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            self._messages.close()
            self._connection.close()
        self._process = self._connection = self._messages = None
        self._ready = False


def _stage(command: Sequence[str]) -> str | None:
    """Stage of kfp's command; None where the task takes a fresh interpreter in any case."""
    if len(command) < 4 or PROGRAM not in command[2] or any(Path(device).exists() for device in _DEVICES):
        return None
    stage = command[command.index(_STAGE) + 1] if _STAGE in command else ""
    return stage if stage in STAGES else None


def _message(messages: IO[str], kind: str) -> int | None:
    """Number in the next message, which must be of `kind`; None where the warm process ended."""
    word, _, number = messages.readline().partition(" ")
    return int(number) if word == kind else None
