"""kfp's local runner, observed: time, cache hits and outcome of each task; nothing starts after a failed task.

kfp.local has no hook for this, so functions of the pinned version are wrapped. Left alone, it goes on with the tasks
that do not depend on the failed one, in an order that differs from run to run, and replaces every `python3` in a
command, those in users' paths included. With `RUNNER=docker` each task runs in its stage's container. kfp removes each
container as it ends, and takes a missing one for a success, so a failing stage could pass (kubeflow/pipelines#13332):
here the exit status is read before the container is removed.
"""

import contextlib
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kfp import local
from kfp.dsl import Artifact
from kfp.local import cache, graph_utils, status, subprocess_task_handler
from kfp.local.orchestrator import task_executor

from common.errors import ConfigError
from pipelines.cluster.placement import SCRATCH, USER_ID
from pipelines.local.tasks import TASKS, Watch, numbered, replaced, stage_of, with_interpreter

_ITERATION = re.compile(r"for-loop-\d+-iteration-(\d+)")


def in_order(tasks: Mapping[str, Any]) -> list[str]:
    """Stack of the tasks of a DAG, in one order for all runs: data that cannot be used is told before models are made.

    Replaces kfp's `topological_sort_tasks`.
    """
    names = sorted(tasks, key=lambda name: (name != "prepare-dataset", name))
    stack: list[str] = graph_utils.topological_sort({name: list(tasks[name].dependent_tasks) for name in names})
    return stack


class Observer:
    """Record of the tasks of one local run, which run one after another with these `variables` of the environment.

    After a task has failed, no other one of its cell, or of a run without cells, is started.

    Attributes:
        stages: one row per task in order: name, seconds, of these inside models, cached, state, and the error when it
            failed; `cell` is the number of its iteration in a loop, else None.
    """

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self.stages: list[dict[str, Any]] = []
        self.artifacts: dict[str, dict[str, str]] = {}
        self._variables, self._terminal = variables or {}, sys.stdout
        self._ended = 0.0, ""
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

    def run(self, full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        """Run one task and return its exit status; replaces kfp's `run_local_subprocess`."""
        own = {**self._variables, **(env_vars or {})}
        return self.watched(full_command, lambda watch: TASKS.run(full_command, {**own, **watch.variables}, watch))

    def watched(self, command: Sequence[str], run: Callable[[Watch], int]) -> int:
        """Exit status of a task that `run` runs; how it ended is kept for its row."""
        watch = Watch(command, self._terminal)
        status = run(watch)
        self._ended = watch.end(status)
        return status

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Context in which kfp's local runner is observed, and events are shown on what is now standard output."""
        self._terminal = sys.stdout
        execute, local_cache = task_executor.execute_single_task, cache.LocalCache
        compute_key, get = local_cache.compute_key, local_cache.get

        def observed_execute(*args: Any, **kwargs: Any) -> Any:
            found = _ITERATION.search(str(kwargs["pipeline_resource_name"]))
            cell = int(found[1]) if found else None
            if cell in {row["cell"] for row in self.failures()}:
                return {}, status.Status.FAILURE
            label = numbered(stage_of(kwargs["task_spec"].component_ref.name), self._count)
            self._cached, start = False, time.monotonic()
            self._ended = 0.0, ""
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
                row |= {"cached": self._cached, "model_seconds": self._ended[0]}
            self.artifacts[label] = {key: value.path for key, value in outputs.items() if isinstance(value, Artifact)}
            row["state"] = "succeeded" if state == status.Status.SUCCESS else "failed"
            if state != status.Status.SUCCESS:
                row["error"] = self._ended[1] or "see the log"
            return outputs, state

        def observed_key(cache_self: cache.LocalCache, *args: Any, **kwargs: Any) -> str:
            key = str(compute_key(cache_self, *args, **kwargs))
            entries = self._entries.setdefault(stage_of(kwargs["component_name"]), [])
            entries.append(Path(cache_self.cache_root) / f"{key}.json")
            return key

        def observed_get(cache_self: cache.LocalCache, key: str) -> Any:
            found = get(cache_self, key)
            self._cached = found is not None
            return found

        with (
            replaced(task_executor, execute_single_task=observed_execute),
            replaced(local_cache, compute_key=observed_key, get=observed_get),
            replaced(subprocess_task_handler, run_local_subprocess=self.run),
            replaced(subprocess_task_handler, replace_python_executable=with_interpreter),
            replaced(graph_utils, topological_sort_tasks=in_order),
        ):
            yield


def container_runner(environment: Mapping[str, str], *, network: bool) -> Any:
    """Build kfp's DockerRunner with the limits of the pods on a cluster.

    These are: unprivileged user, no capabilities, read-only root file system, a temporary folder that is also HOME. The
    host's `network` is for a remote store or endpoint.

    Raises ConfigError: no container engine answers.
    """
    import docker

    try:
        client = docker.from_env()
        client.ping()
        client.close()
    except docker.errors.DockerException as error:
        raise ConfigError(
            f"RUNNER=docker, but no container engine answers ({str(error)[:120]}); start docker, or set DOCKER_HOST"
        ) from error
    return local.DockerRunner(
        environment={**environment, "HOME": SCRATCH, "PYTHONPATH": "/app"},
        user=f"{USER_ID}:{USER_ID}" if os.getuid() == 0 else f"{os.getuid()}:{os.getgid()}",
        read_only=True,
        tmpfs={SCRATCH: "exec"},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        network_mode="host" if network else "none",
        shm_size="1g",
    )


def make_writable(folders: Sequence[Path]) -> None:
    """Create `folders`; when this process is root, change their owner to the containers' user."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        if os.getuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, USER_ID, USER_ID, follow_symlinks=False)


def containers_with(
    observer: Observer, writable: Sequence[Path], readable: Sequence[Path]
) -> contextlib.AbstractContextManager[None]:
    """Context in which kfp's containers also mount these folders and return their true exit status."""
    from kfp.local import docker_task_handler

    more = {str(path): {"bind": str(path), "mode": "rw"} for path in writable}
    more |= {str(path): {"bind": str(path), "mode": "ro"} for path in readable}

    def run(client: Any, image: str, command: list[str], volumes: dict[str, Any], **arguments: Any) -> int:
        mounted = {**more, **volumes}
        return observer.watched(
            command, lambda watch: run_container(client, image, command, mounted, watch, **arguments)
        )

    return replaced(docker_task_handler, run_docker_container=run)


def run_container(
    client: Any, image: str, command: list[str], volumes: Mapping[str, Any], watch: Watch, **arguments: Any
) -> int:
    """Run `command` in a container, whose output `watch` takes, and return its exit status.

    Raises ConfigError: the image is missing; it is not pulled, since images are built from these sources.
    """
    import docker

    if watch.folder is not None:
        make_writable([watch.folder])
        arguments["environment"] = {**arguments.get("environment", {}), **watch.variables}
    try:
        container = client.containers.create(
            image, with_interpreter(command, "python3"), volumes=dict(volumes), **arguments
        )
    except docker.errors.ImageNotFound as error:
        raise ConfigError(f"image {image} is not on this machine; build it with: make images") from error
    try:
        container.start()
        for piece in container.logs(stream=True, follow=True):
            watch.take(piece.decode(errors="backslashreplace"))
        return int(container.wait()["StatusCode"])
    finally:
        container.remove(force=True)
