from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import StorageError
from common.storage import ObjectStore, open_store
from common.storage.checkpoints import Checkpoints
from tests.unit.training.small import equal, train


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "file":
        return open_store(tmp_path / "store")
    return open_store(f"{request.getfixturevalue('bucket')}/checkpoints")


def put(kept: Checkpoints, step: int, text: str = "") -> None:
    def write(folder: Path) -> None:
        (folder / "a.bin").write_bytes(b"a" * 1000)
        (folder / "b.txt").write_text(text or str(step))

    kept.save(step, write)


def latest(kept: Checkpoints) -> tuple[int, str] | None:
    with kept.latest() as found:
        return None if found is None else (found[0], (found[1] / "b.txt").read_text())


def test_the_newest_is_found_and_the_last_two_are_kept(store: ObjectStore) -> None:
    kept = Checkpoints(store)
    assert latest(kept) is None
    for step in (1, 2, 10):
        put(kept, step)
    assert latest(Checkpoints(store)) == (10, "10")
    assert {key.split("/")[0] for key in store.list()} == {"step-2", "step-10"}
    kept.clear()
    assert latest(kept) is None and not list(store.list())


def test_the_marker_is_written_last_and_holds_size_and_hash(store: ObjectStore) -> None:
    kept = Checkpoints(store)

    def write(folder: Path) -> None:
        assert store.size("step-3/DONE.json") is None
        (folder / "x").write_bytes(b"abc")

    kept.save(3, write)
    files = json.loads(store.read_bytes("step-3/DONE.json"))["files"]
    assert files["x"]["size"] == 3 and files["x"]["sha256"].startswith("ba7816bf")


DAMAGES: dict[str, Callable[[ObjectStore], None]] = {
    "truncated": lambda store: store.write_bytes("step-2/a.bin", b"a" * 999),
    "changed": lambda store: store.write_bytes("step-2/a.bin", b"b" * 1000),
    "gone": lambda store: store.delete("step-2/a.bin"),
    "unmarked": lambda store: store.delete("step-2/DONE.json"),
    "marker cut": lambda store: store.write_bytes("step-2/DONE.json", b'{"files": {"a.b'),
    "marker empty": lambda store: store.write_bytes("step-2/DONE.json", b"[]"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_one_is_skipped_with_a_log_line(
    store: ObjectStore, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, logged = Checkpoints(store), []
    monkeypatch.setattr(
        "common.storage.checkpoints.event", lambda _, name, **fields: logged.append((name, fields["step"]))
    )
    put(kept, 1)
    put(kept, 2)
    DAMAGES[damage](store)
    assert latest(kept) == (1, "1")
    assert logged == [("checkpoint_skipped", 2)]
    put(kept, 2, "again")
    assert latest(kept) == (2, "again")


def test_a_newest_one_that_cannot_be_read_is_neither_skipped_nor_lost(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Checkpoints(store)
    put(kept, 1)
    put(kept, 2)

    def refused(*_: object) -> int:
        raise StorageError("the store is overloaded")

    with monkeypatch.context() as away, pytest.raises(StorageError, match="overloaded"):
        away.setattr(type(store), "size", refused)
        latest(kept)
    assert latest(kept) == (2, "2")


def test_saving_removes_what_a_later_step_left_damaged(store: ObjectStore) -> None:
    kept = Checkpoints(store)
    for step in (1, 5):
        put(kept, step)
    store.write_bytes("step-5/a.bin", b"")
    put(kept, 2)
    assert {key.split("/")[0] for key in store.list()} == {"step-1", "step-2"}


def test_a_save_that_fails_leaves_the_one_before(store: ObjectStore) -> None:
    kept = Checkpoints(store)
    put(kept, 1)

    def write(folder: Path) -> None:
        (folder / "b.txt").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        kept.save(2, write)
    assert latest(kept) == (1, "1")


def test_a_full_disk_is_said_to_be_one(store: ObjectStore) -> None:
    def write(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match=r"step 2 .*No space left.*free some space"):
        Checkpoints(store).save(2, write)


def test_a_training_goes_on_from_the_checkpoint_before_a_damaged_one(tmp_path: Path) -> None:
    expected, _ = train(tmp_path)
    whole = open_store(tmp_path)
    state = whole.read_bytes("step-12/model.safetensors")
    whole.write_bytes("step-12/model.safetensors", state[: len(state) // 2])
    resumed: list[int] = []
    model, _ = train(tmp_path, before=resumed.append)
    assert resumed == [11]
    assert equal(model, expected)


@pytest.mark.e2e
def test_a_training_goes_on_from_s3(bucket: str) -> None:
    kept = Checkpoints(open_store(f"{bucket}/work"))
    unbroken, expected = train()

    def stop(step: int) -> None:
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(kept=kept, before=stop)
    resumed: list[int] = []
    model, curve = train(kept=kept, before=resumed.append)
    assert resumed[0] == 7
    assert equal(model, unbroken) and curve == expected
