"""Pieces of work that end as items of a store, made in parallel."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from common.errors import StorageError, failure_text
from common.log import event, get_logger
from common.runtime.devices import device
from common.runtime.parallel import run_items
from common.runtime.timing import model_time
from common.storage.items import ItemStore

Name = TypeVar("Name", bound=Hashable)
log = get_logger("work")


class Work(Protocol):
    """A piece of work, picklable."""

    @property
    def store(self) -> ItemStore:
        """Receives the item."""

    @property
    def key(self) -> Mapping[str, Any]:
        """JSON values that determine the item: hashes of inputs, settings, the replicate."""

    def make(self, folder: Path, /) -> None:
        """Write the item's files; what was begun before a kill may lie in the store's checkpoints and scratch."""


@dataclass(frozen=True)
class Task:
    """Work that is done by a picklable function."""

    store: ItemStore
    key: Mapping[str, Any]
    make: Callable[[Path], None]


@dataclass(frozen=True)
class Performed(Generic[Name]):
    """Item folders of the works that were finished, and errors of those that failed, in the order of the works."""

    items: dict[Name, Path]
    failures: dict[Name, Exception]


def item_of(work: Work) -> Path:
    """Folder of the work's item, existing or not."""
    return work.store.path(**work.key)


def obtain(work: Work) -> Path:
    """Folder of the work's item, made unless the store has it; checkpoints and scratch of the work are then removed."""
    key = dict(work.key)
    with model_time():
        made = work.store.get_or_make(work.make, **key)
    work.store.clear_unfinished(**key)
    return made


def obtain_all(works: Mapping[Name, Work]) -> dict[Name, Path]:
    """Items of all works, made in parallel unless their stores have them.

    Raises Exception: the first failure; works that have not begun then do not begin.
    """
    items: dict[Name, Path] = {}
    for name, result in _results(works):
        if isinstance(result, Exception):
            raise result
        items[name] = result
    return {name: items[name] for name in works}


def perform(works: Mapping[Name, Work]) -> Performed[Name]:
    """Like `obtain_all`, but a failure of a work is logged and does not stop the others.

    Raises StorageError: the store failed, of which no work is the cause; works that have not begun then do not begin.
    """
    found, done = dict[Name, Path | Exception](), Performed[Name]({}, {})
    for name, result in _results(works):
        if isinstance(result, StorageError):
            raise result
        found[name] = result
    for name in works:
        result = found[name]
        if isinstance(result, Exception):
            event(log, "failed", what=name, error=failure_text(result))
            done.failures[name] = result
        else:
            done.items[name] = result
    return done


def _results(works: Mapping[Name, Work]) -> Iterator[tuple[Name, Path | Exception]]:
    """Each work's item or error, in order of completion; equal works are done once."""
    equal: dict[Path, list[Name]] = {}
    for name, work in works.items():
        equal.setdefault(item_of(work), []).append(name)
    names = list(equal.values())
    # One process on a GPU: several would hold several models in its memory, and CUDA's driver does not survive a fork.
    workers = 1 if works and device() == "cuda" else None
    for place, result in run_items(obtain, [works[same[0]] for same in names], workers):
        for name in names[place]:
            yield name, result
