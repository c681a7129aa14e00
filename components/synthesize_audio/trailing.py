"""Work that follows behind on threads while the caller goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any


class Trailing:
    """A bounded queue of jobs: they start in order of submission, and the first error comes back to the caller.

    Args:
        threads: jobs at a time.
        limit: jobs that may wait or run; `submit` blocks until there is room for one more.
    """

    def __init__(self, threads: int, limit: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="trailing")
        self._limit = max(1, limit)
        self._pending: deque[Future[Any]] = deque()

    def submit(self, job: Callable[..., object], *arguments: Any, **named: Any) -> None:
        """Queue `job(*arguments, **named)`.

        Raises:
            Exception: what an earlier job ended with.
        """
        while len(self._pending) >= self._limit:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(job, *arguments, **named))

    def drain(self) -> None:
        """Wait for all jobs.

        Raises:
            Exception: what the first one that failed ended with.
        """
        while self._pending:
            self._pending.popleft().result()

    def __enter__(self) -> Trailing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.drain()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
