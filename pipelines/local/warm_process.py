"""The process that imports libraries and forks tasks; `warm.py` starts it, and says why.

Messages over the socket on its standard input. In: for each task `source`, `arguments`, `variables` and `folder`, then
the file descriptor of the task's output. Out: `("ready", 0)`; then for each task `("pid", n)`, from the task itself
once it leads its own session, and `("status", n)`, negative for a signal.
"""

import atexit
import gc
import importlib
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import Any, NoReturn


def main(libraries: Sequence[str]) -> int:
    """Import `libraries`, then fork tasks until the run closes the socket."""
    connection = Connection(os.dup(0))
    for library in libraries:
        importlib.import_module(library)
    # What is imported stays: tasks that collect garbage would copy its pages.
    gc.freeze()
    try:
        connection.send(("ready", 0))
    except BrokenPipeError:
        # The run ended while the libraries were imported.
        return 0
    while True:
        try:
            request, output = connection.recv(), recv_handle(connection)
        except (EOFError, OSError):
            return 0
        pid = os.fork()
        if pid == 0:
            os.setsid()
            for stream in (1, 2):
                os.dup2(output, stream)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            connection.send(("pid", os.getpid()))
            os.close(output)
            connection.close()
            _leave(_status(request))
        os.close(output)
        _, status = os.waitpid(pid, 0)
        try:
            connection.send(("status", os.waitstatus_to_exitcode(status)))
        except BrokenPipeError:
            return 0


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
