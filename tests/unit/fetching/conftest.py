"""A web server on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipelines.local.download import Patience
from tests.unit.fetching.server import Server, running


@pytest.fixture
def server() -> Iterator[Server]:
    """An empty one."""
    with running() as found:
        yield found


@pytest.fixture
def patience() -> Patience:
    """As long as a test may wait."""
    return Patience(tries=3, connect_s=2.0, stall_s=0.3, longest_wait_s=0.01, spare_bytes=0)
