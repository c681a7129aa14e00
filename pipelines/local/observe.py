"""Observation of kfp's local runner: time, cache hits and outcome of each task; nothing starts after a failed task.

kfp.local has no hook for this, so functions of the pinned version are wrapped. Left alone, it goes on with the tasks
that do not depend on the failed one, in an order that differs from run to run, and replaces every `python3` in a
command, those in users' paths included.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kfp.dsl import Artifact
from kfp.local import cache, graph_utils, status, subprocess_task_handler
from kfp.local.orchestrator import task_executor

from pipelines.local.stopping import TASKS
from pipelines.local.watch import replaced, with_interpreter

_ITERATION = re.compile(r"for-loop-\d+-iteration-(\d+)")


def in_order(tasks: Mapping[str, Any]) -> list[str]:
    """Stack of the tasks of a DAG, in one order for all runs: data that cannot be used is told before models are made.

    Replaces kfp's `topological_sort_tasks`.
    """
    names = sorted(tasks, key=lambda name: (name != "prepare-dataset", name))
    stack: list[str] = graph_utils.topological_sort({name: list(tasks[name].dependent_tasks) for name in names})
    return stack


class Observer:
    """Record of the tasks of one local run.

    After a task has failed, no other one of its cell, or of a run without cells, is started.

    Attributes:
        stages: one row per task in order: name, seconds, of these inside models, cached, state, and the error when it
            failed; `cell` is the number of its iteration in a loop, else None.
    """

    def __init__(self) -> None:
        self.stages: list[dict[str, Any]] = []
        self.artifacts: dict[str, dict[str, str]] = {}
        self._entries: dict[str, list[Path]] = {}
        self._count: Counter[str] = Counter()
        self._cached = False

    def failures(self) -> list[dict[str, Any]]:
        """Rows of the failed tasks, the first one first."""
        return [row for row in self.stages if row["state"] == "failed"]

    def evict(self, stage_names: set[str]) -> None:
        """Delete kfp's cached results of these stages, so that the next run executes them again."""
        for name in stage_names:
            for entry in self._entries.get(name, []):
                entry.unlink(missing_ok=True)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Context in which kfp's local runner is observed, and events are shown on what is now standard output."""
        TASKS.terminal = sys.stdout
        execute, local_cache = task_executor.execute_single_task, cache.LocalCache
        compute_key, get = local_cache.compute_key, local_cache.get

        def observed_execute(*args: Any, **kwargs: Any) -> Any:
            found = _ITERATION.search(str(kwargs["pipeline_resource_name"]))
            cell = int(found[1]) if found else None
            if cell in {row["cell"] for row in self.failures()}:
                return {}, status.Status.FAILURE
            name = kwargs["task_spec"].component_ref.name.removeprefix("comp-").rstrip("-0123456789")
            self._count[name] += 1
            label = name if self._count[name] == 1 else f"{name}-{self._count[name]}"
            self._cached, start = False, time.monotonic()
            TASKS.model_s, TASKS.failure = 0.0, ""
            row: dict[str, Any] = {"name": label, "seconds": 0.0, "state": "running", "cell": cell}
            self.stages.append(row)
            try:
                outputs, state = execute(*args, **kwargs)
            except KeyboardInterrupt:
                row["state"] = "interrupted"
                raise
            except Exception as error:
                row |= {"state": "failed", "error": str(error) or type(error).__name__}
                raise
            finally:
                row["seconds"] = round(time.monotonic() - start, 2)
                row |= {"cached": self._cached, "model_seconds": TASKS.model_s}
            self.artifacts[label] = {key: value.path for key, value in outputs.items() if isinstance(value, Artifact)}
            row["state"] = "succeeded" if state == status.Status.SUCCESS else "failed"
            if state != status.Status.SUCCESS:
                row["error"] = TASKS.failure or "see the log"
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

        with (
            replaced(task_executor, execute_single_task=observed_execute),
            replaced(local_cache, compute_key=observed_key, get=observed_get),
            replaced(subprocess_task_handler, run_local_subprocess=TASKS.run),
            replaced(subprocess_task_handler, replace_python_executable=with_interpreter),
            replaced(graph_utils, topological_sort_tasks=in_order),
        ):
            yield
