"""Finished work kept in an S3 store: whole or absent, found again on another machine."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.errors import StorageError
from common.storage import open_store
from common.storage.items import ItemStore
from common.storage.s3 import S3Store
from common.storage.s3_client import S3Settings
from tests.kit.s3_server import BUCKET
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
    (key,) = open_store(store_uri).child("stage").list()
    assert key.endswith(".tar")


def test_equal_items_are_equal_objects(store_uri: str, tmp_path: Path) -> None:
    for number in (1, 2):
        ItemStore("stage", "v1", f"{store_uri}/{number}").get_or_make(write, seed=1)
    first, second = (open_store(f"{store_uri}/{number}").child("stage") for number in (1, 2))
    (key,) = first.list()
    assert first.read_bytes(key) == second.read_bytes(key)


def test_making_finding_and_reading_items_lists_nothing(
    store_uri: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def watch(method: str, path: str) -> str:
        asked.append(f"{method} {path}")
        return "passed"

    monkeypatch.setattr(proxy, "fault_for", watch)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
    ItemStore("stage", "v1", store_uri).get_or_make(write, seed=1)
    forget_cache(monkeypatch, tmp_path / "other")
    other = ItemStore("stage", "v1", store_uri)
    assert other.has(seed=1) and not other.has(seed=2) and other.path(seed=1).is_dir()
    assert any(line.startswith("PUT") for line in asked) and any(line.startswith("GET") for line in asked)
    assert not [line for line in asked if "list-type" in line or "uploads" in line or "delimiter" in line]


def test_links_in_an_item_are_stored_as_what_they_point_to(
    store_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def linked(folder: Path) -> None:
        write(folder)
        (folder / "soft").symlink_to("figures.json")
        (folder / "hard").hardlink_to(folder / "figures.json")

    ItemStore("stage", "v1", store_uri).get_or_make(linked, seed=1)
    monkeypatch.setenv("SYNTHIO_CACHE", str(tmp_path / "other"))
    store = ItemStore("stage", "v1", store_uri)
    assert store.has(seed=1)
    for name in ("soft", "hard"):
        path = store.path(seed=1) / name
        assert path.read_text() == "{}" and not path.is_symlink()


def test_of_two_runs_that_make_an_item_at_once_the_first_one_stays_for_both(
    store_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def make(folder: Path) -> None:
        (folder / "figures.json").write_text("second")
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("SYNTHIO_CACHE", str(tmp_path / "other"))
            other = ItemStore("stage", "v1", store_uri)
            other.get_or_make(lambda folder: (folder / "figures.json").write_text("first") and None, seed=1)

    made = ItemStore("stage", "v1", store_uri).get_or_make(make, seed=1)
    assert (made / "figures.json").read_text() == "first"
    forget_cache(monkeypatch, tmp_path / "third")
    found = ItemStore("stage", "v1", store_uri).get_or_make(make, seed=1)
    assert (found / "figures.json").read_text() == "first"
    assert [path.name for path in made.parent.iterdir() if path.name.startswith(".")] == []


def test_an_item_whose_making_failed_or_whose_upload_failed_is_nowhere(
    store_uri: str, no_pauses: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise ValueError("broken")

    def refuse(*_: object) -> None:
        raise StorageError("full")

    store = ItemStore("stage", "v1", store_uri)
    with pytest.raises(ValueError, match="broken"):
        store.get_or_make(fail, seed=3)
    monkeypatch.setattr(S3Store, "upload", refuse)
    with pytest.raises(StorageError, match="full"):
        store.get_or_make(write, seed=3)
    assert not list((tmp_path / "cache").rglob("figures.json")) and not list(
        open_store(store_uri).child("stage").list()
    )


def test_items_made_through_faults_are_whole_or_absent_for_everyone_else(
    store_uri: str, proxy: FaultProxy, no_pauses: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clean_url, made, failed = os.environ["AWS_ENDPOINT_URL_S3"], 0, 0
    few = S3Settings(endpoint=proxy.url, attempts=1, read_timeout_s=0.3, pause_s=0.001, cuts=2)
    proxy.rate = 0.4
    for number in range(12):
        monkeypatch.setattr(S3Settings, "from_environment", lambda: few)
        monkeypatch.setenv("SYNTHIO_CACHE", str(tmp_path / f"maker{number}"))
        try:
            ItemStore("stage", "v1", store_uri).get_or_make(write, seed=number)
            made += 1
        except StorageError:
            failed += 1
        monkeypatch.setattr(S3Settings, "from_environment", lambda: S3Settings(endpoint=clean_url))
        monkeypatch.setenv("SYNTHIO_CACHE", str(tmp_path / f"other{number}"))
        other = ItemStore("stage", "v1", store_uri)
        if other.has(seed=number):
            assert (other.path(seed=number) / "model" / "weights").read_bytes() == b"w" * 10_000
    assert made and failed


@pytest.mark.e2e
def test_a_stage_killed_in_the_middle_of_an_upload_leaves_no_item_and_its_parts_go_with_the_next_try(
    store_uri: str, proxy: FaultProxy, open_uploads: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"""
from common.storage.items import ItemStore
from common.storage.s3_client import S3Settings
settings = S3Settings(endpoint={proxy.url!r}, part_bytes=5 * 2**20)
S3Settings.from_environment = classmethod(lambda cls: settings)
def large(folder):
    (folder / "weights").write_bytes(bytes(11 * 2**20))
ItemStore("stage", "v1", {store_uri!r}).get_or_make(large, seed=4)
"""
    proxy.hold = "partNumber=2"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment)
    assert proxy.held.wait(60)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    proxy.hold = ""
    proxy.release.set()
    store = ItemStore("stage", "v1", store_uri)
    assert len(open_uploads()) == 1
    assert not store.has(seed=4) and not list(open_store(store_uri).child("stage").list())
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment)
    assert done.returncode == 0 and not open_uploads()
    monkeypatch.setenv("SYNTHIO_CACHE", f"{os.environ['SYNTHIO_CACHE']}-other")
    store = ItemStore("stage", "v1", store_uri)
    assert store.has(seed=4) and (store.path(seed=4) / "weights").stat().st_size == 11 * 2**20


def test_checkpoints_of_an_item_lie_in_the_store(
    store_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def save(folder: Path) -> None:
        (folder / "state").write_text("s")

    ItemStore("stage", "v1", store_uri).checkpoints(seed=5).save(7, save)
    forget_cache(monkeypatch, tmp_path / "other")
    with ItemStore("stage", "v1", store_uri).checkpoints(seed=5).latest() as found:
        assert found is not None and found[0] == 7 and (found[1] / "state").read_text() == "s"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../../escaped", tarfile.REGTYPE),
        ("/escaped", tarfile.REGTYPE),
        ("escaped", tarfile.SYMTYPE),
        ("escaped", tarfile.LNKTYPE),
        ("escaped", tarfile.FIFOTYPE),
    ],
)
def test_a_damaged_or_unsafe_item_is_made_again(store_uri: str, tmp_path: Path, name: str, kind: bytes) -> None:
    store = ItemStore("stage", "v1", store_uri)
    path = store.path(seed=6)
    key = f"stage/{path.parent.name}/{path.name}.tar"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    for content in (buffer.getvalue(), b"no tar"):
        open_store(store_uri).write_bytes(key, content)
        assert not store.has(seed=6) and not path.exists() and not list(tmp_path.rglob("escaped"))
    store.get_or_make(write, seed=6)
    assert (path / "figures.json").is_file() and store.has(seed=6)
