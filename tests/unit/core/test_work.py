from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from common.errors import DataError, StorageError
from common.runtime.work import item_of, obtain, obtain_all, perform
from common.storage import write_text
from common.storage.items import LISTED, ItemStore
from tests.kit.gpu import pretend_gpu


@dataclass(frozen=True)
class Square:
    """Appends to `made`, a file, since works may run in other processes."""

    store: ItemStore
    number: int
    made: Path

    @property
    def key(self) -> dict[str, Any]:
        return {"number": self.number}

    def make(self, folder: Path) -> None:
        if self.number < 0:
            raise DataError(f"{self.number} is negative")
        if self.number == 0:
            raise StorageError("the store is away")
        with self.made.open("a") as lines:
            lines.write(f"{self.number}\n")
        self.store.checkpoints(**self.key).save(1, lambda step: write_text(step / "x", ""))
        write_text(self.store.scratch_dir(**self.key) / "x", "")
        write_text(folder / "square", str(self.number**2))


@pytest.fixture
def squares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("common.runtime.parallel.cpu_count", lambda: 2)
    store = ItemStore("stage", "v1", tmp_path / "store")
    return lambda *numbers: {str(number): Square(store, number, tmp_path / "made") for number in numbers}


def test_items_come_by_name_in_order_and_are_made_once(squares: Any, tmp_path: Path) -> None:
    works = squares(3, 1, 2)
    for _ in range(2):
        items = obtain_all(works)
        assert {name: (item / "square").read_text() for name, item in items.items()} == {"3": "9", "1": "1", "2": "4"}
        assert list(items) == ["3", "1", "2"]
    assert sorted((tmp_path / "made").read_text().split()) == ["1", "2", "3"]


def test_equal_works_are_done_once(squares: Any, tmp_path: Path) -> None:
    works = squares(1, 2)
    done = perform({**works, "again": works["1"]})
    assert done.items["again"] == done.items["1"] and list(done.items) == ["1", "2", "again"]
    assert sorted((tmp_path / "made").read_text().split()) == ["1", "2"]


def test_a_failure_is_told_by_name_and_the_others_are_finished(squares: Any) -> None:
    done = perform(squares(-1, 2, -3, 4))
    assert list(done.items) == ["2", "4"]
    assert {name: str(error) for name, error in done.failures.items()} == {
        "-1": "-1 is negative",
        "-3": "-3 is negative",
    }
    with pytest.raises(DataError, match="is negative"):
        obtain_all(squares(2, -1))


@pytest.mark.parametrize("cores", [1, 2])
def test_a_store_that_fails_is_no_failure_of_the_work(
    squares: Any, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.runtime.parallel.cpu_count", lambda: cores)
    with pytest.raises(StorageError, match="the store is away"):
        perform(squares(1, 0, -2, 3))
    with pytest.raises(StorageError, match="the store is away"):
        perform(squares(0))
    assert perform(squares(1)).items


def test_what_was_kept_of_unfinished_work_goes_when_the_item_is_there(squares: Any, tmp_path: Path) -> None:
    work = squares(5)["5"]
    assert obtain(work) == item_of(work)
    work.store.checkpoints(**work.key).save(1, lambda step: write_text(step / "x", ""))
    obtain(work)
    left = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert sorted(path.name for path in left if path.suffix != LISTED) == ["FORMAT", "square"]


@pytest.mark.parametrize(("gpu", "expected"), [(False, None), (True, 1)])
def test_works_share_a_gpu_in_one_process_and_have_a_core_each_without_one(
    squares: Any, monkeypatch: pytest.MonkeyPatch, gpu: bool, expected: int | None
) -> None:
    if gpu:
        pretend_gpu(monkeypatch)
    seen: list[int | None] = []
    monkeypatch.setattr("common.runtime.work.run_items", lambda work, items, workers: seen.append(workers) or [])
    assert obtain_all({}) == {} and seen == [None]
    with pytest.raises(KeyError):
        obtain_all(squares(1))
    assert seen == [None, expected]
