from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import StorageError
from common.storage import ObjectStore, open_store
from common.storage.checkpoints import Checkpoints
from tests.unit.training.small import Away, equal, train


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "file":
        return open_store(tmp_path / "store")
    return open_store(f"{request.getfixturevalue('bucket')}/{tmp_path.name}")


def put(kept: Checkpoints, step: int, text: str = "") -> None:
    def write(folder: Path) -> None:
        (folder / "a.bin").write_bytes(b"a" * 1000)
        (folder / "b.txt").write_text(text or str(step))

    kept.save(step, write)


def latest(kept: Checkpoints) -> tuple[int, str] | None:
    with kept.latest() as found:
        return None if found is None else (found[0], (found[1] / "b.txt").read_text())


def latest_step(kept: Checkpoints) -> int:
    with kept.latest() as found:
        return found[0] if found else 0


def steps(store: ObjectStore) -> set[int]:
    """Steps of the checkpoints that lie in a store, whole or not."""
    return {int(key.split("-")[1]) for key in store.list()}


def key_of(store: ObjectStore, step: int, file: str) -> str:
    """Key of a file of the one checkpoint of a step."""
    (found,) = {key.split("/")[0] for key in store.list(f"step-{step}-")}
    return f"{found}/{file}"


def test_the_newest_is_found_and_the_last_two_are_kept(store: ObjectStore) -> None:
    kept = Checkpoints(store)
    assert latest(kept) is None
    for step in (1, 2, 10):
        put(kept, step)
    assert latest(Checkpoints(store)) == (10, "10")
    assert steps(store) == {2, 10}
    kept.clear()
    assert latest(kept) is None and not list(store.list())


def test_the_marker_is_written_last_and_holds_size_and_hash(store: ObjectStore) -> None:
    kept = Checkpoints(store)

    def write(folder: Path) -> None:
        assert not [key for key in store.list() if key.endswith("DONE.json")]
        (folder / "x").write_bytes(b"abc")

    kept.save(3, write)
    files = json.loads(store.read_bytes(key_of(store, 3, "DONE.json")))["files"]
    assert files["x"]["size"] == 3 and files["x"]["sha256"].startswith("ba7816bf")


DAMAGES: dict[str, Callable[[ObjectStore], None]] = {
    "truncated": lambda store: store.write_bytes(key_of(store, 2, "a.bin"), b"a" * 999),
    "changed": lambda store: store.write_bytes(key_of(store, 2, "a.bin"), b"b" * 1000),
    "gone": lambda store: store.delete(key_of(store, 2, "a.bin")),
    "unmarked": lambda store: store.delete(key_of(store, 2, "DONE.json")),
    "marker cut": lambda store: store.write_bytes(key_of(store, 2, "DONE.json"), b'{"files": {"a.b'),
    "marker empty": lambda store: store.write_bytes(key_of(store, 2, "DONE.json"), b"[]"),
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
    store.write_bytes(key_of(store, 5, "a.bin"), b"")
    kept = Checkpoints(store)
    assert latest(kept) == (1, "1")
    put(kept, 2)
    assert steps(store) == {1, 2}


def test_a_run_behind_another_removes_nothing_that_either_needs(store: ObjectStore) -> None:
    ahead, behind = Checkpoints(store), Checkpoints(store)
    for step in (10, 11):
        put(ahead, step)
    put(behind, 5)
    assert steps(store) == {5, 10, 11} and latest(Checkpoints(store)) == (11, "11")
    put(behind, 6)
    assert steps(store) == {6, 10, 11}
    put(ahead, 12)
    assert steps(store) == {11, 12}
    behind.clear()
    put(ahead, 13)
    assert latest(ahead) == (13, "13")


def test_two_runs_at_the_same_step_do_not_mix_their_files(store: ObjectStore) -> None:
    first, second = Checkpoints(store), Checkpoints(store)

    def write(folder: Path) -> None:
        (folder / "b.txt").write_text("first")
        put(second, 7, "second")

    first.save(7, write)
    with first.latest() as found:
        assert found is not None and (found[1] / "b.txt").read_text() in ("first", "second")
    assert len({key.split("/")[0] for key in store.list()}) == 2


def test_what_a_run_ahead_is_writing_stays_and_what_a_killed_one_left_goes(store: ObjectStore) -> None:
    ahead, behind = Checkpoints(store), Checkpoints(store)

    def write(folder: Path) -> None:
        (folder / "b.txt").write_text("9")
        put(behind, 4)

    ahead.save(9, write)
    assert latest(behind) == (9, "9")
    store.write_bytes("step-8-killed00/b.txt", b"")
    put(behind, 5)
    assert 8 in steps(store)
    if (folder := store.local_path("step-8-killed00")) is not None:
        put(behind, 6)
        put(ahead, 10)
        ahead.clear()
        assert steps(store) == {8}, "it may still be written"
        for path in (folder, folder / "b.txt"):
            os.utime(path, (0, 0))
    put(ahead, 11)
    assert steps(store) == {11} if folder else {9, 11}


def test_a_newest_one_that_another_run_replaces_meanwhile_gives_way_to_its_successor(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, size = Checkpoints(store), type(store).size
    for step in (1, 2):
        put(other, step)

    def replaced(self: ObjectStore, key: str) -> int | None:
        monkeypatch.setattr(type(store), "size", size)
        for step in (3, 4):
            put(other, step)
        return size(self, key)

    monkeypatch.setattr(type(store), "size", replaced)
    assert latest(Checkpoints(store)) == (4, "4")


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
    key = key_of(whole, 12, "model.safetensors")
    state = whole.read_bytes(key)
    whole.write_bytes(key, state[: len(state) // 2])
    resumed: list[int] = []
    model, _ = train(tmp_path, before=resumed.append)
    assert resumed == [11]
    assert equal(model, expected)


def test_a_store_that_is_away_between_two_steps_does_not_end_a_training(tmp_path: Path) -> None:
    kept = Away(open_store(tmp_path), {3, 4, 9, 10, 11, 12})
    model, curve = train(kept=kept)
    unbroken, expected = train()
    assert equal(model, unbroken) and curve == expected
    assert latest_step(kept) == 8


def test_a_store_that_refuses_ends_a_training(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="the store is full"):
        train(kept=Away(open_store(tmp_path), {3}, error=StorageError("the store is full")))
    assert latest_step(Checkpoints(open_store(tmp_path))) == 2


def test_a_store_that_is_away_when_a_training_must_end_is_told(tmp_path: Path) -> None:
    kept = Away(open_store(tmp_path), {5, 6, 7})
    with pytest.raises(StorageError, match="the store is away"):
        train(kept=kept, before=lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 4 else None)
    assert latest_step(kept) == 4


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
