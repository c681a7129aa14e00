"""What tests share: a run store of their own, no network, one thread; and what is made once a test run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kit.once import Compiled, once, shared_folder
from tests.kit.smoke import SmokeRun, make_run

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def run_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh run store for each test."""
    root = tmp_path_factory.mktemp("store")
    monkeypatch.setenv("SYNTHIO_STORE", str(root))
    return root


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """The compiled pipelines."""
    return Compiled(shared_folder(tmp_path_factory) / "compiled")


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> SmokeRun:
    """A finished run of the smoke preset."""
    return SmokeRun(once(shared_folder(tmp_path_factory) / "smoke" / "runs", make_run))
