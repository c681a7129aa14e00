"""Launch of several processes for one training: one per GPU, or any number on the CPU."""

import signal
import socket
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import patch_environment

from common.errors import SynthioError
from common.runtime.interrupts import Interruption, forwarded_sigterm
from common.runtime.parallel import sendable
from common.training.engine import PATIENCE

J = TypeVar("J")

GRACE_S = 20.0
"""Time left to the other processes after one has failed; they may be waiting for it for ever."""


def default_processes() -> int:
    """Number of GPUs; 1 without a GPU."""
    return max(1, torch.cuda.device_count())


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
    # Neither CUDA nor the threads of OpenMP and autograd survive a fork of this process.
    context: SpawnContext | ForkServerContext = get_context("spawn")
    if not torch.cuda.is_available():
        context = get_context("forkserver")  # imports the libraries once for all processes
        context.set_forkserver_preload([job.__module__])
    port = _free_port()
    started: list[tuple[BaseProcess, Connection]] = []
    with forwarded_sigterm() as interruption:
        try:
            for rank in range(processes):
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_run, args=(job, argument, rank, processes, port, sender))
                process.start()
                sender.close()
                started.append((process, receiver))
            _join(started, interruption)
        finally:
            for each, _ in started:
                each.kill()
                each.join()
        _raise(started)


def _run(job: Callable[[J], None], argument: J, rank: int, processes: int, port: int, outcome: Connection) -> None:
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
            outcome.send(sendable(error))
            raise SystemExit(1) from error


def _join(started: Sequence[tuple[BaseProcess, Connection]], interruption: Interruption) -> None:
    """Wait for all processes; after a failure without an interruption, for at most `GRACE_S` longer."""
    processes = [process for process, _ in started]
    running, remaining = processes, None
    deadline = float("inf")
    while running and time.monotonic() < deadline:
        wait([process.sentinel for process in running], timeout=remaining)
        running = [process for process in running if process.is_alive()]
        if any(process.exitcode for process in processes) and not interruption.requested:
            deadline = min(deadline, time.monotonic() + GRACE_S)
            remaining = deadline - time.monotonic()


def _raise(started: Sequence[tuple[BaseProcess, Connection]]) -> None:
    errors = [_received(receiver) for _, receiver in started]
    expected = [error for error in errors if isinstance(error, SynthioError)]
    for error in [*expected, *errors]:
        if error is not None:
            raise error
    codes = [process.exitcode for process, _ in started]
    if any(codes):
        raise RuntimeError(f"training processes ended with exit codes {codes}; look for what ended them in the log")


def _received(receiver: Connection) -> Exception | None:
    try:
        return receiver.recv() if receiver.poll() else None
    except EOFError:
        return None


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
