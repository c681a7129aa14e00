"""Frame of every stage: first and last log line, input and output checks, time inside the models."""

import contextlib
import math
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common.contracts.base import write
from common.errors import StorageError
from common.log import event, get_logger
from common.runtime.devices import check_gpus
from common.runtime.record import RECORD, StageRecord, reason
from common.runtime.split_guard import running_as
from common.runtime.timing import Stopwatch, timing_models
from common.storage import write_json
from common.storage.artifacts import finish_artifact, forget_verified, verify_artifact
from common.storage.hashing import hash_json

Figures = dict[str, float | int | str]
"""Of a stage, for the run's page."""


class Stage:
    """Figures of a running stage; see `stage`."""

    def __init__(self, name: str) -> None:
        self.figures: Figures = {}
        self.name, self.start = name, time.monotonic()
        self.inside_models = Stopwatch()

    def verify(self, inputs: Mapping[str, str | None]) -> None:
        """Verify inputs (folder by artifact; None or empty = not given) against their hashes.

        Stages call it for inputs that they never open where there is nothing to do.

        Raises StorageError: an input is missing or damaged.
        """
        for label, folder in inputs.items():
            if folder:
                verify_artifact(self.name, label, Path(folder))

    def record(self, figures: Mapping[str, float | int | str]) -> None:
        """Add figures for the run's page; NaN and infinity, which KFP cannot store as numbers, become text."""
        for name, value in figures.items():
            self.figures[name] = str(value) if isinstance(value, float) and not math.isfinite(value) else value

    def ended(self, error: str = "") -> StageRecord:
        """Record of the stage as it ends now."""
        return StageRecord(
            stage=self.name,
            outcome="failed" if error else "succeeded",
            seconds=time.monotonic() - self.start,
            model_seconds=self.inside_models.seconds,
            figures=self.figures,
            error=error,
        )


@contextlib.contextmanager
def stage(
    name: str,
    config: Mapping[str, Any],
    metrics_path: str,
    outputs: Mapping[str, str],
    inputs: Mapping[str, str | None] | None = None,
) -> Iterator[Stage]:
    """Run the block as the work of a stage.

    Logs settings and versions, unpacks and verifies the inputs and creates the output folders. On success, writes the
    figures to `metrics_path`, and hashes and packs every output (`common.storage.artifacts`). Outputs must not be
    empty, because KFP silently skips a missing one. However it ends, `stage.json` beside `metrics_path` says how.
    `inputs` are those that the stage always reads; see `Stage.verify`.

    Raises:
        ConfigError: the stage has GPUs that torch does not find.
        StorageError: an input is missing or damaged, or an output is empty.
    """
    log, running, place = get_logger(name), Stage(name), Path(metrics_path).with_name(RECORD)
    event(
        log,
        "stage_start",
        config=hash_json(config)[:12],
        replicates=config.get("replicates", config.get("seed", "-")),
        python=platform.python_version(),
        machine=platform.machine(),
    )
    try:
        check_gpus()
        running.verify(inputs or {})
        for folder in outputs.values():
            Path(folder).mkdir(parents=True, exist_ok=True)
        with running_as(name), timing_models(running.inside_models):
            yield running
        empty = [label for label, folder in outputs.items() if not any(Path(folder).iterdir())]
        if empty:
            raise StorageError(
                f"{name}: output {', '.join(empty)} is empty; this is a fault of the stage, please report it"
            )
        for folder in outputs.values():
            finish_artifact(Path(folder))
        write_json(Path(metrics_path), running.figures)
    except Exception as error:
        with contextlib.suppress(StorageError):
            write(place, running.ended(reason(error)))
        raise
    finally:
        forget_verified()
    told = running.ended()
    write(place, told)
    event(log, "stage_done", wall_s=told.seconds, model_s=told.model_seconds, **told.figures)
