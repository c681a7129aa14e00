"""A web server on this machine, and a model hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from pipelines.local.download import Patience
from tests.kit.hub import Hub, hub_server
from tests.unit.fetching.fetched import COMMIT, FILES, MODEL
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


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub with one model; the client asks it, with a cache of its own."""
    with hub_server() as server:
        server.files[MODEL, COMMIT] = dict(FILES)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("SYNTHIO_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
        yield server
