"""Tests in the real images: they need a container engine and `make images`."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from components.catalogue import LOCAL_REGISTRY, LOCAL_TAG, STAGES
from components.catalogue import local_image as image
from pipelines.commands.images import build_command
from pipelines.local.observe import container_runner, run_container
from pipelines.local.tasks import Watch

REQUIRED = "SYNTHIO_TEST_CONTAINERS"

Build = Callable[..., str]


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    """A client of the container engine; skips without one, or fails where `make test-containers` asked for it."""
    reason = ""
    try:
        import docker

        client = docker.from_env(timeout=600)
        known = {tag for found in client.images.list() for tag in found.tags}
        missing = sorted({image(stage) for stage in STAGES} - known)
        if missing:
            reason = f"{len(missing)} images are not built ({missing[0]}); run make images"
    except Exception as error:
        reason = f"no container engine answers: {str(error)[:100]}"
    if reason and os.environ.get(REQUIRED):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    yield client
    client.close()


@pytest.fixture(scope="session")
def build(engine: Any) -> Build:
    """`build(target, layer, name, *arguments, context=…)` builds as `make images` does; returns the image's name."""
    if not os.environ.get(REQUIRED):
        pytest.skip("builds an image, which takes minutes; make test-containers does")

    def built(target: str, layer: str, name: str, *arguments: str, context: str = "", **environment: str) -> str:
        tag = f"{LOCAL_REGISTRY}/{name}:{LOCAL_TAG}"
        more = [*shlex.split(os.environ.get("BUILD_ARGUMENTS", "")), *arguments]
        command = build_command(os.environ.get("IMAGE_BUILDER", "docker build"), layer, [tag], more, target)
        command[-1] = context or command[-1]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return tag

    return built


def run(engine: Any, image: str, command: list[str], volumes: Mapping[str, Any], **arguments: Any) -> int:
    """Exit status of a command in a container, whose output is printed."""
    return run_container(engine, image, command, volumes, Watch(command, sys.stdout), **arguments)


def limits(**environment: str) -> dict[str, Any]:
    """What a container of a local run may do."""
    arguments: dict[str, Any] = container_runner(environment, network=False).container_run_args
    return arguments
