"""What every stage does around its work: first and last log line, output check, time inside the models."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import StorageError
from common.log import event, get_logger
from common.runtime.split_guard import running_as
from common.runtime.timing import model_seconds
from common.storage import store_below, write_json
from common.storage.artifacts import verify_artifact, write_sums
from common.storage.hashing import hash_json


class Stage:
    """Collects a stage's figures; see `stage`."""

    def __init__(self, name: str) -> None:
        self.figures: dict[str, float | int | str] = {}
        self._name = name

    def verify(self, inputs: Mapping[str, str | None]) -> None:
        """Check inputs against their hashes; here those that a stage with nothing to do never opens.

        Args:
            inputs: artifact name to folder; one that is None or empty was not handed over.

        Raises:
            StorageError: an input is gone or damaged.
        """
        for label, folder in inputs.items():
            if folder:
                verify_artifact(self._name, label, Path(folder))

    def record(self, figures: Mapping[str, float | int | str]) -> None:
        """Add figures for the run's page."""
        self.figures |= figures


@contextmanager
def stage(
    name: str,
    config: Mapping[str, Any],
    metrics_path: str,
    outputs: Mapping[str, str],
    inputs: Mapping[str, str | None] | None = None,
) -> Iterator[Stage]:
    """Frame a stage's work.

    Logs settings and versions, checks the inputs against their hashes and makes the output folders; then on success
    writes the figures to `metrics_path` and the hashes of every output, which must have content: KFP skips a missing
    output in silence. What the block keeps in the run store lies below `scope` of its settings.

    Args:
        name: the stage, verb_object.
        config: what `plan` handed over.
        metrics_path: file for the figures.
        outputs: artifact name to folder.
        inputs: what the stage always reads; see `Stage.verify`.

    Raises:
        StorageError: an input is gone or damaged, or an output is empty.
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
    running = Stage(name)
    running.verify(inputs or {})
    for folder in outputs.values():
        Path(folder).mkdir(parents=True, exist_ok=True)
    with running_as(name), store_below(config.get("scope", "")):
        yield running
    empty = [label for label, folder in outputs.items() if not any(Path(folder).iterdir())]
    if empty:
        raise StorageError(
            f"{name}: output {', '.join(empty)} is empty; this is a fault of the stage, please report it"
        )
    for folder in outputs.values():
        write_sums(Path(folder))
    write_json(Path(metrics_path), running.figures)
    event(log, "stage_done", wall_s=time.monotonic() - start, model_s=model_seconds(), **running.figures)
