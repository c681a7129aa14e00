"""What every test gets: its own run store, no network, one thread."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def run_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh run store for each test."""
    root = tmp_path_factory.mktemp("store")
    monkeypatch.setenv("SYNTHIO_STORE", str(root))
    return root
