"""Wall time of parts of a process."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar


class Stopwatch:
    """Wall time of the blocks that run under it; nested blocks count once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count this block."""
        self._depth += 1
        start = time.monotonic()
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                self.seconds += time.monotonic() - start


_models: ContextVar[Stopwatch | None] = ContextVar("models", default=None)


@contextmanager
def timing_models(watch: Stopwatch) -> Iterator[None]:
    """Context whose `model_time` blocks `watch` counts."""
    token = _models.set(watch)
    try:
        yield
    finally:
        _models.reset(token)


def model_time() -> AbstractContextManager[None]:
    """Context that counts as time inside the models of the stage that runs."""
    watch = _models.get()
    return nullcontext() if watch is None else watch.running()
