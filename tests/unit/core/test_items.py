from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.datasets.rows import Row
from common.errors import StorageError
from common.runtime.seeding import derive_seed
from common.storage import publish_dir, read_json, write_json, write_text
from common.storage.artifacts import artifact_hash
from common.storage.hashing import hash_json
from common.storage.items import ItemStore
from tests.kit.hashing import hash_dir


def test_a_finished_item_is_made_once() -> None:
    store, calls = ItemStore("stage", "v1"), []

    def make(folder: Path) -> None:
        calls.append(folder)
        (folder / "x").write_text("1")

    first = store.get_or_make(make, seed=1)
    assert store.get_or_make(make, seed=1) == first
    assert len(calls) == 1
    assert (first / "x").read_text() == "1"


@pytest.mark.parametrize("damage", ["gone", "cut", "more"])
def test_an_item_whose_files_are_gone_or_cut_is_made_again(damage: str) -> None:
    store, calls = ItemStore("stage", "v1"), []

    def make(folder: Path) -> None:
        calls.append(folder)
        (folder / "part").mkdir()
        (folder / "part" / "x").write_text("whole")

    item = store.get_or_make(make, seed=1)
    if damage == "gone":
        (item / "part" / "x").unlink()
    else:
        (item / "part" / ("x" if damage == "cut" else "y")).write_text("")
    assert not store.has(seed=1)
    assert store.get_or_make(make, seed=1) == item and len(calls) == 2
    assert store.has(seed=1) and [path.name for path in (item / "part").iterdir()] == ["x"]
    # Stores of earlier versions have no lists.
    item.with_name(f"{item.name}.list").unlink()
    assert store.has(seed=1)


def test_another_key_or_code_version_is_another_item() -> None:
    store = ItemStore("stage", "v1")
    assert store.path(seed=1) != store.path(seed=2)
    assert store.path(seed=1) != ItemStore("stage", "v2").path(seed=1)


def test_a_store_laid_out_by_another_version_is_refused_and_left_as_it_is(run_store: Path) -> None:
    ItemStore("stage", "v1").get_or_make(lambda folder: write_text(folder / "x", "1"), seed=1)
    assert (run_store / "FORMAT").read_text() == "synthio store 1\n"
    (run_store / "FORMAT").write_text("synthio store 9\n")
    before = hash_dir(run_store)
    for seed in (1, 2):
        with pytest.raises(StorageError, match=r"'synthio store 9', expected 'synthio store 1'.*Name another store"):
            ItemStore("stage", "v1").get_or_make(lambda folder: write_text(folder / "x", "1"), seed=seed)
    assert hash_dir(run_store) == before


def test_a_failed_item_leaves_nothing() -> None:
    store = ItemStore("stage", "v1")

    def fail(folder: Path) -> None:
        (folder / "half").write_text("…")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.get_or_make(fail, seed=1)
    assert not store.has(seed=1)
    assert not [path for path in store.path(seed=1).parent.iterdir() if path.is_dir()]


def test_a_full_disk_is_a_storage_error_and_publishes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="free some space"), publish_dir(tmp_path / "out"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())


def test_a_file_that_fails_while_a_folder_is_made_is_named(tmp_path: Path) -> None:
    final = tmp_path / "made" / "out"
    named = pytest.raises(
        StorageError, match=r"cannot write .*out: No such file or directory: .*absent.wav; check that"
    )
    with named, publish_dir(final):
        (tmp_path / "absent.wav").read_bytes()
    own = pytest.raises(StorageError, match=r"out: No such file or directory; check the folder's permissions")
    with own, publish_dir(final) as folder:
        (folder / "absent" / "x").write_bytes(b"")


def test_a_full_disk_while_writing_a_file_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.json"
    write_text(target, "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError):
        write_text(target, "new")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_integral_floats_hash_like_integers() -> None:
    assert hash_json({"a": 1.0, "b": [2.0]}) == hash_json({"b": [2], "a": 1})
    assert hash_json({"a": 1.5}) != hash_json({"a": 1})


def test_a_folders_hash_sees_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = artifact_hash(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    second = artifact_hash(tmp_path)
    (tmp_path / "b").write_text("2")
    assert len({first, second, artifact_hash(tmp_path)}) == 3


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
@pytest.mark.parametrize("place", [lambda x: x, lambda x: {"a": {"b": x}}, lambda x: [1, [x]], lambda x: {"a": (x, 2)}])
def test_a_number_that_is_not_finite_is_null_in_json(tmp_path: Path, number: float, place: Any) -> None:
    write_json(tmp_path / "a.json", place(number))
    assert read_json(tmp_path / "a.json") == json.loads(json.dumps(place(None)))


def test_json_round_trip_and_clear_error(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"é": [1, 2.5]})
    assert read_json(tmp_path / "a.json") == {"é": [1, 2.5]}
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(StorageError, match=r"b\.json"):
        read_json(tmp_path / "b.json")


@pytest.mark.parametrize("name", ["caf\udce9.wav", "\ud83d", "\udcff/\udcfe"])
def test_text_that_is_no_unicode_is_hashed_seeded_and_recorded(name: str, tmp_path: Path) -> None:
    assert hash_json([name]) != hash_json([name.encode("utf-8", "backslashreplace").decode()])
    assert derive_seed(0, name) != derive_seed(0, "x")
    assert len(Row(Path(name), name, "x").clip_id) == 12
    write_json(tmp_path / "a.json", {"source": name})
    assert (tmp_path / "a.json").read_bytes().isascii() and read_json(tmp_path / "a.json") == {"source": name}
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / os.fsdecode(b"caf\xe9.wav")).write_bytes(b"x")
    assert artifact_hash(tmp_path / "folder")


def test_items_of_a_scope_lie_below_it_and_are_its_own(run_store: Path) -> None:
    scoped = ItemStore("stage", "v1", scope="nights/7")
    made = scoped.get_or_make(lambda folder: write_text(folder / "x", "1"), seed=1)
    assert made.is_relative_to(run_store / "nights" / "7" / "stage")
    assert scoped.has(seed=1) and not ItemStore("stage", "v1").has(seed=1)


def test_the_list_of_an_item_that_was_removed_by_hand_does_not_judge_the_one_made_next(run_store: Path) -> None:
    items = ItemStore("stage", "v1")
    made = items.get_or_make(lambda folder: write_text(folder / "x", "1"), seed=1)
    shutil.rmtree(made)
    assert not items.has(seed=1)
    made.mkdir()
    write_text(made / "x", "of another length")
    assert items.has(seed=1)
