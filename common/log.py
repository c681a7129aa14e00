"""Logging: one `key=value` line per event, and a progress line at most every `interval_s` seconds."""

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_CONTROLS = {number: ascii(chr(number))[1:-1] for number in (*range(32), *range(127, 160))}

TASK_VARIABLE = "SYNTHIO_TASK"
"""Environment variable that a local run sets for a task and its workers: the folder of `EVENTS` and stage.json."""
EVENTS = "events.txt"
"""The task's events, as the run's terminal shows them."""


def task_folder() -> Path | None:
    """Folder in which this task leaves what its runner shows; None on a cluster and outside a run."""
    folder = os.environ.get(TASK_VARIABLE)
    return Path(folder) if folder else None


def get_logger(name: str) -> logging.Logger:
    """Logger of a stage or module, to standard error and in a local run to `EVENTS`; configured at first use."""
    root = logging.getLogger("synthio")
    if not root.handlers:
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s event=%(message)s", "%FT%T%z"))
        folder = task_folder()
        if folder is not None:
            shown = logging.FileHandler(folder / EVENTS, encoding="utf-8", delay=True, errors="backslashreplace")
            shown.setFormatter(_Shown())
            # Before the other handler, whose line makes the runner look here.
            root.addHandler(shown)
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        root.propagate = False
    return root.getChild(name)


class _Shown(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"  {record.name.partition('.')[2]}: {record.getMessage()}"


def event(logger: logging.Logger, name: str, /, **fields: Any) -> None:
    """Log one event as `event=name key=value …`; values with spaces are quoted."""
    logger.info("%s%s", name, "".join(f" {key}={_text(value)}" for key, value in fields.items()))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return repr(text) if any(c.isspace() for c in text) else printable(text)


def printable(text: str) -> str:
    """`text` with control characters, which break lines or command the terminal, as escapes such as `\\x1b`."""
    return text.translate(_CONTROLS)


class Progress:
    """Logs done/total, rate and time left; silent between intervals. `done` counts items finished before the start."""

    def __init__(self, logger: logging.Logger, what: str, total: int, interval_s: float = 10.0, done: int = 0) -> None:
        self._logger, self._what, self._total, self._interval_s = logger, what, total, interval_s
        self._before, self._done, self._start = done, done, time.monotonic()
        self._last = self._start

    def advance(self, count: int = 1, /, **fields: Any) -> None:
        """Add `count` finished items; log when the interval has passed or all are done."""
        self._done += count
        now = time.monotonic()
        if now - self._last < self._interval_s and self._done < self._total:
            return
        self._last = now
        rate = (self._done - self._before) / max(now - self._start, 1e-9)
        event(
            self._logger,
            self._what,
            done=f"{self._done}/{self._total}",
            per_s=rate,
            eta_s=(self._total - self._done) / max(rate, 1e-9),
            **fields,
        )


def track(items: Iterable[T], logger: logging.Logger, what: str, total: int) -> Iterator[T]:
    """Yield `items`, logging progress."""
    progress = Progress(logger, what, total)
    for item in items:
        yield item
        progress.advance()
