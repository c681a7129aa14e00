"""Spread independent items over processes, one CPU thread each."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

from common.errors import ConfigError, DataError, StorageError
from common.stage import model_time

Item = TypeVar("Item")
Result = TypeVar("Result")


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
    work: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None
) -> Iterator[tuple[int, Result | BaseException]]:
    """Yield `(index, result or the exception it raised)` in order of completion.

    `work` and `items` must be picklable. With one worker or one item everything runs in this
    process. Two busy processes with two threads each are several times slower than with one, so
    each worker gets one thread.
    """
    with model_time():
        yield from _run_items(work, items, min(workers or cpu_count(), len(items)))


def _run_items(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[int, Result | BaseException]]:
    if workers <= 1:
        for index, item in enumerate(items):
            try:
                yield index, work(item)
            except Exception as error:
                yield index, error
        return
    # Forking keeps imported libraries; it is safe here because the parent has not used a GPU
    # and `_one_thread` is called before any parallel region.
    context = multiprocessing.get_context("fork")
    _one_thread()
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
        futures = {pool.submit(_attempt, work, item): index for index, item in enumerate(items)}
        try:
            for future in as_completed(futures):
                failure = future.exception()
                yield futures[future], failure if failure is not None else future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _attempt(work: Callable[[Item], Result], item: Item) -> Result:
    try:
        return work(item)
    except Exception as error:
        raise _sendable(error) from None


def _sendable(error: Exception) -> Exception:
    """`error` as a type that surely unpickles: one that does not would end the whole pool."""
    for kind in (ConfigError, DataError, StorageError):
        if isinstance(error, kind):
            return kind(str(error))
    return error if type(error).__module__ == "builtins" else RuntimeError(f"{type(error).__name__}: {error}")


def _one_thread() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
