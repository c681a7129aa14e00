"""Finished work kept in an S3 store: whole or absent, found again on another machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import StorageError
from common.items import ItemStore
from common.storage import open_store
from tests.s3_server import BUCKET
from tests.unit.storage.fault_proxy import FaultProxy

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture()
def store_uri(server: str, keys: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server)
    monkeypatch.setenv("SYNTHIO_CACHE", str(tmp_path / "cache"))
    yield f"s3://{BUCKET}/items-{tmp_path.name}"


def write(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "weights").write_bytes(b"w" * 10_000)
    (folder / "figures.json").write_text("{}")


def forget_cache(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("SYNTHIO_CACHE", str(folder))


def test_an_item_made_on_one_machine_is_found_on_another(
    store_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = ItemStore("stage", "v1", store_uri).get_or_make(write, seed=1)
    forget_cache(monkeypatch, tmp_path / "other")
    other = ItemStore("stage", "v1", store_uri)
    assert not other.has(seed=2) and other.has(seed=1)
    found = other.path(seed=1)
    assert found != made and (found / "model" / "weights").read_bytes() == b"w" * 10_000
    assert sorted(path.name for path in found.iterdir()) == ["figures.json", "model"]


def test_an_item_is_one_object(store_uri: str) -> None:
    ItemStore("stage", "v1", store_uri).get_or_make(write, seed=1)
    (key,) = open_store(store_uri).list()
    assert key.startswith("stage/") and key.endswith(".tar")


def test_an_item_whose_making_failed_or_whose_upload_failed_is_nowhere(
    store_uri: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise ValueError("broken")

    store = ItemStore("stage", "v1", store_uri)
    with pytest.raises(ValueError, match="broken"):
        store.get_or_make(fail, seed=3)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    with pytest.raises(StorageError):
        ItemStore("stage", "v1", store_uri).get_or_make(write, seed=3)
    monkeypatch.undo()
    assert not list((tmp_path / "cache").rglob("figures.json"))


def test_a_stage_killed_while_it_uploads_leaves_nothing_half_done(store_uri: str, server: str, tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from common.items import ItemStore
import common.storage.s3 as s3
def killed(self, key, path):
    os.kill(os.getpid(), signal.SIGKILL)
s3.S3Store.upload = killed
ItemStore("stage", "v1", {store_uri!r}).get_or_make(lambda folder: (folder / "x").write_text("x"), seed=4)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    store = ItemStore("stage", "v1", store_uri)
    assert not store.has(seed=4) and not list(open_store(store_uri).list())
    assert (store.get_or_make(write, seed=4) / "figures.json").is_file()


def test_checkpoints_of_an_item_lie_in_the_store(
    store_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def save(folder: Path) -> None:
        (folder / "state").write_text("s")

    ItemStore("stage", "v1", store_uri).checkpoints(seed=5).save(7, save)
    forget_cache(monkeypatch, tmp_path / "other")
    with ItemStore("stage", "v1", store_uri).checkpoints(seed=5).latest() as found:
        assert found is not None and found[0] == 7 and (found[1] / "state").read_text() == "s"


def test_a_member_that_would_lie_outside_is_refused(store_uri: str, tmp_path: Path) -> None:
    import io
    import tarfile

    store = ItemStore("stage", "v1", store_uri)
    name = store.path(seed=6)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("../../escaped")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    open_store(store_uri).write_bytes(f"stage/{name.parent.name}/{name.name}.tar", buffer.getvalue())
    with pytest.raises(StorageError, match="no plain file"):
        store.has(seed=6)
    assert not list(tmp_path.rglob("escaped"))
