"""Watches kfp's local runner: time, cache hits and outcome of each task.

kfp.local has no hook for it, so two functions of the pinned version are wrapped.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kfp.dsl import Artifact
from kfp.local import cache, status
from kfp.local.orchestrator import task_executor


class Observer:
    """What the tasks of one local run did.

    Attributes:
        stages: one row per task in order: name, seconds, cached, state.
        artifacts: `{task: {output: path}}`.
        report_config: what `plan` handed to the report.
        running: the task that began last.
    """

    def __init__(self) -> None:
        self.stages: list[dict[str, Any]] = []
        self.artifacts: dict[str, dict[str, str]] = {}
        self.report_config: dict[str, Any] = {}
        self.running: str | None = None
        self._entries: dict[str, list[Path]] = {}
        self._count: Counter[str] = Counter()
        self._cached = False

    def evict(self, stage_names: set[str]) -> None:
        """Forget kfp's cached results of these stages, so that the next run executes them again."""
        for name in stage_names:
            for entry in self._entries.get(name, []):
                entry.unlink(missing_ok=True)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Context in which kfp's local runner is watched."""
        execute, compute_key, get = (
            task_executor.execute_single_task,
            cache.LocalCache.compute_key,
            cache.LocalCache.get,
        )

        def observed_execute(*args: Any, **kwargs: Any) -> Any:
            name = kwargs["task_spec"].component_ref.name.removeprefix("comp-").rstrip("-0123456789")
            self._count[name] += 1
            label = name if self._count[name] == 1 else f"{name}-{self._count[name]}"
            self._cached, self.running, start = False, label, time.monotonic()
            row = {"name": label, "seconds": 0.0, "cached": False, "state": "failed"}
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
        try:
            yield
        finally:
            task_executor.execute_single_task = execute
            cache.LocalCache.compute_key, cache.LocalCache.get = compute_key, get
