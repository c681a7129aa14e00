"""Wall time that a process spends inside models."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

_model_s = 0.0
_depth = 0


@contextmanager
def model_time() -> Iterator[None]:
    """Count the wall time of this block as time inside the models; nested blocks count once."""
    global _model_s, _depth
    _depth += 1
    start = time.monotonic()
    try:
        yield
    finally:
        _depth -= 1
        if _depth == 0:
            _model_s += time.monotonic() - start


def model_seconds() -> float:
    """Wall time counted so far, in seconds."""
    return _model_s
