"""Container runner: each task of a local run runs in its stage's container (`RUNNER=docker make run-pipeline`).

kfp's launcher removes each container as it ends, and takes a missing container for a success, so a failing stage could
pass (kubeflow/pipelines#13332). Here the exit status is read before the container is removed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import ConfigError
from pipelines.cluster.placement import SCRATCH, USER_ID
from pipelines.local.stopping import TASKS
from pipelines.local.watch import Watch, replaced, with_interpreter


def container_runner(environment: Mapping[str, str], *, network: bool) -> Any:
    """Build kfp's DockerRunner with the limits of the pods on a cluster.

    The limits are: unprivileged user, no capabilities, read-only root file system, a temporary folder that is also
    HOME.

    Args:
        network: whether containers use the host's network; a remote store or endpoint needs it.

    Raises ConfigError: no container engine answers.
    """
    from kfp import local

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


def containers_with(writable: Sequence[Path], readable: Sequence[Path]) -> contextlib.AbstractContextManager[None]:
    """Context in which kfp's containers also mount these folders and return their true exit status."""
    from kfp.local import docker_task_handler

    more = {str(path): {"bind": str(path), "mode": "rw"} for path in writable}
    more |= {str(path): {"bind": str(path), "mode": "ro"} for path in readable}

    def run(client: Any, image: str, command: list[str], volumes: dict[str, Any], **arguments: Any) -> int:
        return run_container(client, image, command, {**more, **volumes}, **arguments)

    return replaced(docker_task_handler, run_docker_container=run)


def run_container(client: Any, image: str, command: list[str], volumes: Mapping[str, Any], **arguments: Any) -> int:
    """Run `command` in a container, stream its output, and return its exit status.

    How it ended is left in `TASKS`, as for tasks in processes.

    Raises ConfigError: the image is missing; it is not pulled, since images are built from these sources.
    """
    import docker

    watch = Watch(command, TASKS.terminal)
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
        status = int(container.wait()["StatusCode"])
        TASKS.model_s, TASKS.failure = watch.end(status)
        return status
    finally:
        container.remove(force=True)
