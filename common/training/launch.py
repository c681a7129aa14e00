"""Launch of several processes for one training: one per GPU, or any number on the CPU."""

import multiprocessing
import signal
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import patch_environment
from torch.multiprocessing.spawn import ProcessException, start_processes

from common.errors import SynthioError
from common.runtime.interrupts import forwarded_sigterm
from common.runtime.parallel import sendable
from common.training.engine import PATIENCE

J = TypeVar("J")

GRACE_S = 20.0
"""Time left to the other processes after one has failed, or saved; they may be waiting for it for ever."""


def default_processes() -> int:
    """Number of processes that train together: those that torchrun started, or else one per GPU, or 1."""
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    return max(state.num_processes, torch.cuda.device_count())


def is_main() -> bool:
    """Whether this is rank 0 of all processes, which writes results."""
    return PartialState(cpu=not torch.cuda.is_available()).is_main_process


def launch(job: Callable[[J], None], argument: J, processes: int) -> None:
    """Run `job(argument)` in `processes` processes that train together.

    A single process is this one. Under torchrun the processes that torchrun started join each other and
    run the job, whatever `processes` says. Results are files written by rank 0 (`is_main`). SIGTERM
    reaches all processes. Job and argument are picklable.

    Raises:
        SynthioError: raised by a process; the lowest rank's error if several did.
        RuntimeError: a process failed with another error, or ended without one.
    """
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    if processes == 1 or state.num_processes > 1:
        job(argument)
        return
    # Neither CUDA nor the threads of OpenMP and autograd survive a fork of this process; a fork server has neither, and
    # imports the libraries once for all processes.
    method = "spawn" if torch.cuda.is_available() else "forkserver"
    multiprocessing.set_forkserver_preload([job.__module__])
    errors = multiprocessing.get_context(method).SimpleQueue()
    with forwarded_sigterm():
        arguments = job, argument, processes, _free_port(), errors
        started = start_processes(_run, arguments, processes, join=False, start_method=method)
        try:
            while not started.join(grace_period=GRACE_S):
                pass
        except ProcessException as failure:
            told = dict(errors.get() for _ in iter(errors.empty, True))
            if told:
                raise told[min(told, key=lambda rank: (not isinstance(told[rank], SynthioError), rank))] from None
            codes = [process.exitcode for process in started.processes]
            raise RuntimeError(
                f"training processes ended with exit codes {codes}; look for what ended them in the log"
            ) from failure
        finally:
            for process in started.processes:
                process.kill()
                process.join()


def _run(rank: int, job: Callable[[J], None], argument: J, processes: int, port: int, errors: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    where = {"rank": rank, "local_rank": rank, "world_size": processes, "local_world_size": processes}
    with patch_environment(**where, master_addr="127.0.0.1", master_port=port, omp_num_threads=torch.get_num_threads()):
        PartialState._reset_state()
        try:
            state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
            job(argument)
            state.destroy_process_group()
        except Exception as error:
            errors.put((rank, sendable(error)))
            raise SystemExit(1) from error


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
