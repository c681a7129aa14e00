"""The S3 store behind a proxy that spoils requests: no wrong byte, nothing half done."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import StorageError
from common.storage import DamagedError
from common.storage.checkpoints import Checkpoints
from common.storage.s3 import S3Store
from tests.unit.storage.conftest import MakeStore
from tests.unit.storage.fault_proxy import FAULTS, FaultProxy

pytestmark = pytest.mark.e2e

OpenUploads = Callable[[], list[str]]


class Operations:
    """Random reads and writes of a few keys. A wrong byte fails the test.

    After a failed write the old or the new content may be there, and nothing else.
    """

    def __init__(self, store: S3Store, folder: Path, seed: int) -> None:
        self.store, self.folder, self.rng = store, folder, random.Random(seed)
        self.known: dict[str, set[bytes]] = {}
        self.outcomes: Counter[str] = Counter()

    def run(self, count: int) -> None:
        for _ in range(count):
            key = f"k{self.rng.randrange(20)}"
            kinds = ["write", "upload"] + (["read", "stream", "download", "size"] if key in self.known else [])
            kind = self.rng.choice(kinds)
            try:
                if kind in ("write", "upload"):
                    self._write(key, kind, self.rng.randbytes(self.rng.randrange(1, 60_000)))
                elif kind == "size":
                    assert self.store.size(key) in {len(data) for data in self.known[key]}
                else:
                    assert self._read(key, kind) in self.known[key]
                self.outcomes["done"] += 1
            except StorageError:
                self.outcomes["failed"] += 1

    def _write(self, key: str, kind: str, data: bytes) -> None:
        self.known.setdefault(key, set()).add(data)
        if kind == "write":
            self.store.write_bytes(key, data)
        else:
            (self.folder / "up").write_bytes(data)
            self.store.upload(key, self.folder / "up")
        self.known[key] = {data}

    def _read(self, key: str, kind: str) -> bytes:
        if kind == "read":
            return self.store.read_bytes(key)
        if kind == "stream":
            with self.store.open(key) as file:
                return b"".join(iter(lambda: file.read(7000), b""))
        self.store.download(key, self.folder / "down")
        return (self.folder / "down").read_bytes()


def test_500_operations_through_faults_read_no_wrong_byte(
    make_store: MakeStore, proxy: FaultProxy, open_uploads: OpenUploads, tmp_path: Path
) -> None:
    proxy.rate = 0.15
    work = Operations(make_store("faults", proxy.url), tmp_path, seed=3)
    work.run(500)
    assert work.outcomes.total() == 500 and work.outcomes["failed"] <= 10
    assert set(proxy.done) == {*FAULTS, "passed"} and min(proxy.done.values()) >= 3
    clean = make_store("faults")
    assert all(clean.read_bytes(key) in contents for key, contents in work.known.items())
    assert not open_uploads()


def test_uploads_in_parts_through_faults_are_whole_or_absent_and_leave_no_part(
    make_store: MakeStore, proxy: FaultProxy, open_uploads: OpenUploads, tmp_path: Path
) -> None:
    clean, spoiled = make_store("parts"), make_store("parts", proxy.url, attempts=1)
    path, outcomes = tmp_path / "big", Counter[str]()
    # About half of the uploads fail; threads draw the faults in an order of their own.
    for number in range(10):
        data = random.Random(number).randbytes(10 * 2**20 + 1000 * number)
        path.write_bytes(data)
        proxy.rate, proxy.kinds = 0.13, ("error_500", "reset", "lost_answer", "corrupt")
        try:
            spoiled.upload(f"{number}", path)
            outcomes["stored"] += 1
        except StorageError:
            outcomes["failed"] += 1
        found = clean.size(f"{number}")
        assert found in (None, len(data))
        assert found is None or clean.read_bytes(f"{number}") == data
        # What a broken store kept of an upload goes with the next try.
        proxy.rate = 0.0
        spoiled.upload(f"{number}", path)
        assert clean.read_bytes(f"{number}") == data and not open_uploads()
    assert outcomes["stored"] and outcomes["failed"]


@pytest.mark.parametrize("operation", ["POST uploads", "PUT partNumber=1", "POST uploadId"])
def test_one_lost_answer_to_any_request_of_an_upload_leaves_the_object_and_no_part(
    make_store: MakeStore,
    proxy: FaultProxy,
    open_uploads: OpenUploads,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
) -> None:
    method, query = operation.split()
    lost: list[str] = []

    def watch(command: str, path: str) -> str:
        if not lost and command == method and query in path.partition("?")[2]:
            lost.append(path)
            return "lost_answer"
        return "passed"

    monkeypatch.setattr(proxy, "fault_for", watch)
    data = random.Random(operation).randbytes(10 * 2**20)
    (tmp_path / "big").write_bytes(data)
    key = f"lost-{query}"
    make_store("lost", proxy.url).upload(key, tmp_path / "big")
    assert lost and make_store("lost").read_bytes(key) == data and not open_uploads()


def test_a_lost_answer_to_every_put_still_counts_as_done(
    make_store: MakeStore, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy, "fault_for", lambda method, _: "lost_answer" if method == "PUT" else "passed")
    make_store("lost", proxy.url, attempts=2).write_bytes("k", b"content")
    assert make_store("lost").read_bytes("k") == b"content"


def test_a_reader_goes_on_after_cuts_with_the_same_version_only(make_store: MakeStore, proxy: FaultProxy) -> None:
    clean, spoiled = make_store("cuts"), make_store("cuts", proxy.url)
    data = random.Random(2).randbytes(3 * 2**20)
    clean.write_bytes("k", data)
    proxy.rate, proxy.kinds = 1.0, ("truncated",)
    with spoiled.open("k") as file:
        first = file.read(2**20)
        clean.write_bytes("k", data[::-1])
        with pytest.raises(StorageError, match="changed while it was read"):
            file.read()
    assert first == data[: 2**20]
    proxy.rate = 0.5
    with spoiled.open("k") as file:
        assert file.read() == data[::-1]


def test_a_reader_gives_up_when_nothing_comes_any_more(make_store: MakeStore, proxy: FaultProxy) -> None:
    make_store("dead").write_bytes("k", b"content")
    store = make_store("dead", proxy.url, cuts=2, read_timeout_s=0.1)
    proxy.rate, proxy.kinds = 1.0, ("reset",)
    with pytest.raises(StorageError, match="AWS_ENDPOINT_URL_S3"):
        store.read_bytes("k")


def test_content_that_changed_in_the_store_is_never_read_as_if_it_were_right(
    make_store: MakeStore, proxy: FaultProxy, tmp_path: Path
) -> None:
    make_store("bits").write_bytes("k", bytes(5000))
    store = make_store("bits", proxy.url)
    proxy.rate = 1.0
    for kind in ("corrupt", "shortened"):
        proxy.kinds = (kind,)
        for read in (lambda: store.read_bytes("k"), lambda: store.download("k", tmp_path / "out")):
            with pytest.raises(DamagedError, match="differs from its record"):
                read()
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_behind_faults_is_whole_or_not_there(
    make_store: MakeStore, proxy: FaultProxy, open_uploads: OpenUploads
) -> None:
    proxy.rate, saved, failed = 0.3, 0, 0
    for step in range(1, 16):

        def write(folder: Path, step: int = step) -> None:
            (folder / "state").write_bytes(bytes([step]) * 5000)

        try:
            Checkpoints(make_store("checkpoints", proxy.url, attempts=2)).save(step, write)
            saved = step
        except StorageError:
            failed += 1
        with Checkpoints(make_store("checkpoints")).latest() as found:
            if found is not None:
                assert found[0] >= saved and (found[1] / "state").read_bytes() == bytes([found[0]]) * 5000
    assert saved and failed and not open_uploads()
