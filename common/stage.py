"""What every stage does around its work: first and last log line, output check, time inside the models."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import StorageError
from common.hashing import hash_json
from common.log import event, get_logger
from common.storage import write_json

_model_s = 0.0
_depth = 0


@contextmanager
def model_time() -> Iterator[None]:
    """Count the wall time of this block as spent inside the models; nested blocks count once."""
    global _model_s, _depth
    _depth += 1
    start = time.monotonic()
    try:
        yield
    finally:
        _depth -= 1
        if _depth == 0:
            _model_s += time.monotonic() - start


class Stage:
    """Collects a stage's figures; see `stage`."""

    def __init__(self) -> None:
        self.figures: dict[str, float | int | str] = {}

    def record(self, figures: Mapping[str, float | int | str]) -> None:
        """Add figures for the run's page."""
        self.figures |= figures


@contextmanager
def stage(name: str, config: Mapping[str, Any], metrics_path: str, outputs: Mapping[str, str]) -> Iterator[Stage]:
    """Frame a stage's work.

    Makes the output folders, logs settings and versions, then on success writes the figures to
    `metrics_path` and checks that every output has content: KFP skips a missing output in silence.

    Args:
        name: the stage, verb_object.
        config: what `plan` handed over.
        metrics_path: file for the figures.
        outputs: artifact name to folder.

    Raises:
        StorageError: an output is empty.
    """
    log = get_logger(name)
    start = time.monotonic()
    event(
        log,
        "stage_start",
        config=hash_json(config)[:12],
        seeds=config.get("seeds", config.get("seed", "-")),
        python=platform.python_version(),
        machine=platform.machine(),
    )
    for folder in outputs.values():
        Path(folder).mkdir(parents=True, exist_ok=True)
    running = Stage()
    yield running
    empty = [label for label, folder in outputs.items() if not any(Path(folder).iterdir())]
    if empty:
        raise StorageError(
            f"{name}: output {', '.join(empty)} is empty; this is a fault of the stage, please report it"
        )
    write_json(Path(metrics_path), running.figures)
    event(log, "stage_done", wall_s=time.monotonic() - start, model_s=_model_s, **running.figures)
