"""Observation of kfp's local runner: time, cache hits and outcome of each task.

kfp.local has no hook for this, so functions of the pinned version are wrapped.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kfp.dsl import Artifact
from kfp.local import cache, status, subprocess_task_handler
from kfp.local.orchestrator import task_executor

from pipelines.local.stopping import TASKS

_ITERATION = re.compile(r"for-loop-\d+-iteration-(\d+)")


class Observer:
    """Record of the tasks of one local run.

    Args:
        error: returns the last failure that a task reported.

    Attributes:
        stages: one row per task in order: name, seconds, cached, state, and the error when it failed; `cell` is the
            number of its iteration in a loop, else None.
        artifacts: `{task: {output: path}}`.
        report_config: settings of the report, as resolved by `plan`.
        running: the task that started last.
    """

    def __init__(self, error: Callable[[], str] = str) -> None:
        self._error = error
        self.stages: list[dict[str, Any]] = []
        self.artifacts: dict[str, dict[str, str]] = {}
        self.report_config: dict[str, Any] = {}
        self.running: str | None = None
        self._entries: dict[str, list[Path]] = {}
        self._count: Counter[str] = Counter()
        self._cached = False

    def evict(self, stage_names: set[str]) -> None:
        """Delete kfp's cached results of these stages, so that the next run executes them again."""
        for name in stage_names:
            for entry in self._entries.get(name, []):
                entry.unlink(missing_ok=True)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Context in which kfp's local runner is observed."""
        execute, compute_key, get = (
            task_executor.execute_single_task,
            cache.LocalCache.compute_key,
            cache.LocalCache.get,
        )

        run_subprocess = subprocess_task_handler.run_local_subprocess

        def observed_execute(*args: Any, **kwargs: Any) -> Any:
            name = kwargs["task_spec"].component_ref.name.removeprefix("comp-").rstrip("-0123456789")
            self._count[name] += 1
            label = name if self._count[name] == 1 else f"{name}-{self._count[name]}"
            self._cached, self.running, start = False, label, time.monotonic()
            cell = _ITERATION.search(str(kwargs["pipeline_resource_name"]))
            row: dict[str, Any] = {"name": label, "seconds": 0.0, "cached": False, "state": "failed"}
            row["cell"] = int(cell[1]) if cell else None
            self.stages.append(row)
            try:
                outputs, state = execute(*args, **kwargs)
            except KeyboardInterrupt:
                row["state"] = "interrupted"
                raise
            finally:
                row["seconds"] = round(time.monotonic() - start, 2)
                row["cached"] = self._cached
            if name == "plan":
                self.report_config = outputs.get("report", {})
            self.artifacts[label] = {key: value.path for key, value in outputs.items() if isinstance(value, Artifact)}
            row["state"] = "succeeded" if state == status.Status.SUCCESS else "failed"
            if state != status.Status.SUCCESS:
                row["error"] = self._error()
            return outputs, state

        def observed_key(cache_self: cache.LocalCache, *args: Any, **kwargs: Any) -> str:
            key = str(compute_key(cache_self, *args, **kwargs))
            name = kwargs["component_name"].removeprefix("comp-").rstrip("-0123456789")
            self._entries.setdefault(name, []).append(Path(cache_self.cache_root) / f"{key}.json")
            return key

        def observed_get(cache_self: cache.LocalCache, key: str) -> Any:
            found = get(cache_self, key)
            self._cached = found is not None
            return found

        task_executor.execute_single_task = observed_execute
        cache.LocalCache.compute_key, cache.LocalCache.get = observed_key, observed_get
        subprocess_task_handler.run_local_subprocess = TASKS.run
        try:
            yield
        finally:
            task_executor.execute_single_task = execute
            cache.LocalCache.compute_key, cache.LocalCache.get = compute_key, get
            subprocess_task_handler.run_local_subprocess = run_subprocess
