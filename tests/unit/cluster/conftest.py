from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.once import Compiled
from tests.unit.cluster.stub import Stub, serving


@pytest.fixture()
def stub() -> Iterator[Stub]:
    with serving() as server:
        yield server


@pytest.fixture
def package(compiled: Compiled) -> Path:
    return compiled.path()
