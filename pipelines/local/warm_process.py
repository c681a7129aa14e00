"""The process that imports libraries and forks tasks; `warm.py` starts it, and says why.

Messages over the socket on its standard input. In: a line of JSON (`source`, `arguments`, `variables`, `folder`), sent
with the file descriptor of the task's output. Out: `ready`; then for each task `pid <n>`, from the task itself once it
leads its own session, and `status <n>`, negative for a signal.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

_PART = 65536


def main(libraries: Sequence[str]) -> int:
    """Import `libraries`, then fork tasks until the run closes the socket."""
    connection = socket.socket(fileno=os.dup(0))
    for library in libraries:
        importlib.import_module(library)
    # What is imported stays: tasks that collect garbage would copy its pages.
    gc.freeze()
    connection.sendall(b"ready\n")
    while True:
        request, output = _receive(connection)
        if request is None:
            return 0
        pid = os.fork()
        if pid == 0:
            os.setsid()
            for stream in (1, 2):
                os.dup2(output, stream)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            connection.sendall(f"pid {os.getpid()}\n".encode())
            os.close(output)
            connection.close()
            _leave(_status(request))
        os.close(output)
        _, status = os.waitpid(pid, 0)
        try:
            connection.sendall(f"status {os.waitstatus_to_exitcode(status)}\n".encode())
        except BrokenPipeError:
            return 0


def _receive(connection: socket.socket) -> tuple[dict[str, Any] | None, int]:
    data, descriptors, _, _ = socket.recv_fds(connection, _PART, 1)
    while data and not data.endswith(b"\n"):
        more = connection.recv(_PART)
        data = data + more if more else b""
    return (json.loads(data), descriptors[0]) if data else (None, -1)


def _status(request: dict[str, Any]) -> int:
    """Exit status of the task, as an interpreter of its own would have it."""
    try:
        _run(request)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _leave(status: int) -> NoReturn:
    """End as an interpreter does, but for taking apart every imported module, which takes two seconds."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _run(request: dict[str, Any]) -> None:
    """Do what kfp's script does: store the component's source, and run the executor on it as the main module."""
    os.environ.clear()
    os.environ.update(request["variables"])
    os.chdir(request["folder"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ephemeral_component.py"
        path.write_text(request["source"], encoding="utf-8")
        sys.argv = ["executor", "--component_module_path", str(path), *request["arguments"]]
        # Imported in the task: what it imports reads the task's variables.
        importlib.import_module("common.runtime.record").main()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
