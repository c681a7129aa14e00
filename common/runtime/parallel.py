"""Parallel map of independent items over processes, one CPU thread each."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextvars import ContextVar
from typing import Literal, TypeVar

from threadpoolctl import threadpool_limits

from common.errors import ConfigError, DataError, Interrupted, StorageError
from common.runtime.interrupts import forwarded_sigterm
from common.runtime.split_guard import RUNNING
from common.runtime.timing import model_time

Item = TypeVar("Item")
Result = TypeVar("Result")

_interrupted: ContextVar[Interrupted | None] = ContextVar("interrupted", default=None)
"""What interrupted an item of this worker: the next one is queued already, and must not start."""


def cpu_count() -> int:
    """CPUs this process may use (affinity and cgroup quota considered)."""
    count = len(os.sched_getaffinity(0))
    try:
        quota, period = open("/sys/fs/cgroup/cpu.max", encoding="ascii").read().split()
        if quota != "max":
            count = min(count, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return count


def run_items(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int | None, start: Literal["fork", "spawn"] = "fork"
) -> Iterator[tuple[int, Result | Exception]]:
    """Yield `(index, result or exception)` in order of completion, from so many `workers`; None = one per core.

    `work` and `items` must be picklable. With one worker or one item everything runs in this process. Each worker gets
    one thread; two busy processes with two threads each are several times slower. Workers that use a GPU must be
    spawned: CUDA does not survive a fork. Items of a store that a model makes: `common.runtime.work`.
    """
    with model_time():
        yield from _run_items(work, items, min(workers or cpu_count(), len(items)), start)


def run_all(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int | None = None,
    start: Literal["fork", "spawn"] = "fork",
    advance: Callable[[], object] = lambda: None,
) -> list[Result]:
    """Results of `run_items` in the order of the items; `advance` is called after each.

    Raises Exception: the first failure; items that have not begun then do not begin.
    """
    made: dict[int, Result] = {}
    for index, result in run_items(work, items, workers, start):
        if isinstance(result, Exception):
            raise result
        made[index] = result
        advance()
    return [made[index] for index in range(len(items))]


def abandoned() -> bool:
    """Whether this is a worker whose parent was killed; a long item should then stop."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()


def _run_items(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int, start: Literal["fork", "spawn"]
) -> Iterator[tuple[int, Result | Exception]]:
    if workers <= 1:
        for index, item in enumerate(items):
            try:
                yield index, work(item)
            except Interrupted:
                raise
            except Exception as error:
                yield index, error
        return
    # Forking keeps imported libraries; it is safe here because the parent has not used a GPU
    # and `_one_thread` is called before any parallel region.
    context = multiprocessing.get_context(start)
    _one_thread()
    pool = ProcessPoolExecutor(workers, context, _begin_worker, (RUNNING.get(),))
    with forwarded_sigterm(), pool:
        futures = {pool.submit(_attempt, work, item): index for index, item in enumerate(items)}
        try:
            for future in as_completed(futures):
                failure = future.exception()
                if isinstance(failure, Exception) and not isinstance(failure, Interrupted):
                    yield futures[future], failure
                else:
                    yield futures[future], future.result()
        except Interrupted:
            pool.shutdown(cancel_futures=True)
            raise
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _attempt(work: Callable[[Item], Result], item: Item) -> Result:
    if (before := _interrupted.get()) is not None:
        raise before
    try:
        return work(item)
    except Exception as error:
        _interrupted.set(error if isinstance(error, Interrupted) else None)
        raise sendable(error) from None


def sendable(error: Exception) -> Exception:
    """Convert `error` to a type that is sure to unpickle; one that is not would break the whole pool."""
    for kind in (ConfigError, DataError, StorageError, Interrupted):
        if isinstance(error, kind):
            return kind(str(error))
    return error if type(error).__module__ == "builtins" else RuntimeError(f"{type(error).__name__}: {error}")


def _begin_worker(stage: str | None) -> None:
    RUNNING.set(stage)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _one_thread()


def _one_thread() -> None:
    # NumPy's and SciPy's BLAS have thread pools of their own.
    threadpool_limits(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
