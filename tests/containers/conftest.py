"""Tests in the real images: they need a container engine and `make images`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from pipelines.placement import STAGES, image, target_of

REQUIRED = "SYNTHIO_TEST_CONTAINERS"


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    """A client of the container engine; skips without one, or fails where `make test-containers` asked for it."""
    reason = ""
    try:
        import docker

        client = docker.from_env()
        known = {tag for found in client.images.list() for tag in found.tags}
        missing = [image(target_of(stage)) for stage in STAGES if image(target_of(stage)) not in known]
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
