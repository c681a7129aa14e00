"""Features of the clips of a corpus on this machine's disk: one part per shard, read as memory maps.

A part is published when it is whole, so a killed stage goes on with the first missing one. Memory holds
a clip while it is written, and the places of all clips (16 bytes each) while they are read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.corpus.shards import Corpus, CorpusClip, Shard, Split, read_audio_shard
from common.errors import DataError
from common.runtime.parallel import run_items
from common.storage import publish_dir, read_json, write_json
from common.storage.items import ItemStore

Source = TypeVar("Source")
Facts = Mapping[str, Any]
Precision = Literal["float32", "float16"]

SAMPLE_VALUES = 2**25
"""How many values statistics are taken from."""


class ShardClips(NamedTuple):
    """The first `clips` clips of a shard: a source for `write_features`."""

    corpus_dir: Path
    shard: Shard
    clips: int

    def read(self) -> Iterator[CorpusClip]:
        """The clips.

        Raises:
            DataError: the shard is damaged.
        """
        with Corpus(self.corpus_dir).open_shard(self.shard) as file:
            yield from islice(read_audio_shard(file), self.clips)


def audio_shards(corpus_dir: Path, split: Split, max_clips: int | None) -> list[ShardClips]:
    """The shards of the first `max_clips` clips of a split; None = all."""
    chosen, room = list[ShardClips](), max_clips
    for shard in Corpus(corpus_dir).shards_of("audio", split):
        clips = shard.clips if room is None else min(shard.clips, room)
        room = None if room is None else room - clips
        if clips:
            chosen.append(ShardClips(corpus_dir, shard, clips))
    return chosen


def write_features(
    folder: Path,
    sources: Sequence[Source],
    read: Callable[[Source], Iterator[tuple[Tensor, Facts]]],
    precision: Precision = "float32",
) -> StoredFeatures:
    """Write one part per source, in parallel; parts that are there are kept.

    Args:
        folder: belongs to these sources and this `read` alone.
        sources: picklable, in the order of the clips.
        read: picklable; gives the features of each clip, (R, …) with R > 0 and otherwise equal shapes,
            and what else is to be known of it, as JSON values.
        precision: of the stored values.

    Returns:
        The whole of it.

    Raises:
        StorageError: the disk is full or not writable.
        SynthioError: what `read` raises.
    """
    missing = [(number, source) for number, source in enumerate(sources) if not _part(folder, number).is_dir()]
    threads = torch.get_num_threads()
    try:
        for _, result in run_items(partial(_write_part, folder, read, precision), missing):
            if isinstance(result, BaseException):
                raise result
    finally:
        torch.set_num_threads(threads)
    return StoredFeatures(folder)


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:06d}"


def _write_part(
    folder: Path,
    read: Callable[[Source], Iterator[tuple[Tensor, Facts]]],
    precision: Precision,
    numbered: tuple[int, Source],
) -> None:
    number, source = numbered
    rows, characters, shape = [0], [0], list[int]()
    with publish_dir(_part(folder, number)) as part:
        with (part / "values.bin").open("wb") as values, (part / "facts.jsonl").open("wb") as facts:
            for features, known in read(source):
                shape = list(features.shape[1:])
                values.write(features.numpy().astype(precision).tobytes())
                rows.append(rows[-1] + len(features))
                characters.append(characters[-1] + facts.write(json.dumps(known).encode() + b"\n"))
        np.save(part / "places.npy", np.array([rows, characters], dtype=np.int64))
        write_json(part / "part.json", {"shape": shape, "precision": precision})


@dataclass(frozen=True)
class _Part:
    """A part that holds clips.

    Attributes:
        values: (rows, …).
        facts: one JSON line per clip.
        rows: (clips + 1,) where each clip's rows begin and end.
        characters: (clips + 1,) the same of its facts.
    """

    values: NDArray[Any]
    facts: NDArray[np.uint8]
    rows: NDArray[np.int64]
    characters: NDArray[np.int64]


class StoredFeatures:
    """What `write_features` wrote. It can be opened by any number of processes, which share the memory.

    Args:
        folder: as given to `write_features`.

    Attributes:
        rows: number of rows of all clips.
    """

    def __init__(self, folder: Path) -> None:
        opened = [_open(part) for part in sorted(folder.glob("part-*"))]
        self._parts = [part for part in opened if part is not None]
        self._first_clips = np.cumsum([0, *(len(part.rows) - 1 for part in self._parts)])
        self._first_rows = np.cumsum([0, *(part.rows[-1] for part in self._parts)])
        self.rows = int(self._first_rows[-1])

    def __len__(self) -> int:
        """Number of clips."""
        return int(self._first_clips[-1])

    def clip(self, index: int) -> Tensor:
        """Features (R, …) of a clip, float32."""
        part, place = self._clip(index)
        return _tensor(part.values[part.rows[place] : part.rows[place + 1]])

    def facts(self, index: int) -> dict[str, Any]:
        """What else is known of a clip."""
        part, place = self._clip(index)
        text = part.facts[part.characters[place] : part.characters[place + 1]].tobytes()
        known: dict[str, Any] = json.loads(text)
        return known

    def row(self, index: int) -> Tensor:
        """One of all rows, (…), float32."""
        number = _place(self._first_rows, index)
        return _tensor(self._parts[number].values[index - self._first_rows[number]])

    def owner(self, row: int) -> int:
        """The clip that a row belongs to."""
        number = _place(self._first_rows, row)
        place = _place(self._parts[number].rows, row - int(self._first_rows[number]))
        return int(self._first_clips[number]) + place

    @cached_property
    def _values_each(self) -> int:
        return int(np.prod(self._parts[0].values.shape[1:]))

    def sample(self, values: int = SAMPLE_VALUES) -> Tensor:
        """Rows of all clips in order, (N, …); of so many values at most those of evenly spaced clips.

        Raises:
            DataError: there are no clips.
        """
        if not len(self):
            raise DataError("the corpus has no clips to take features from; run prepare_corpus with keep_audio: true")
        count = len(self)
        if self.rows * self._values_each > values:
            count = max(1, count * values // (self.rows * self._values_each))
        chosen = np.linspace(0, len(self) - 1, count).round().astype(int)
        return torch.cat([self.clip(index) for index in chosen.tolist()])

    def _clip(self, index: int) -> tuple[_Part, int]:
        number = _place(self._first_clips, index)
        return self._parts[number], index - int(self._first_clips[number])


def _place(firsts: NDArray[np.int64], index: int) -> int:
    return int(np.searchsorted(firsts, index, side="right")) - 1


def _tensor(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32))


def _open(folder: Path) -> _Part | None:
    """A part as memory maps; None without clips, which cannot be mapped."""
    try:
        told = read_json(folder / "part.json")
        rows, characters = np.load(folder / "places.npy", allow_pickle=False)
        if len(rows) == 1:
            return None
        values = np.memmap(folder / "values.bin", told["precision"], "r", shape=(int(rows[-1]), *told["shape"]))
        facts = np.memmap(folder / "facts.jsonl", np.uint8, "r", shape=(int(characters[-1]),))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"features in {folder} are damaged ({error}); delete {folder.parent} and run again") from error
    return _Part(values, facts, rows, characters)


Plan = TypeVar("Plan")


@dataclass(frozen=True)
class CorpusJob(Generic[Plan]):
    """What a training process needs to know.

    Attributes:
        plan: of the stage.
        corpus_dir: the artifact.
        store: of the stage.
        key: of the item.
        folder: where the model is written.
    """

    plan: Plan
    corpus_dir: Path
    store: ItemStore
    key: dict[str, Any]
    folder: Path

    @property
    def scratch(self) -> Path:
        """Where the features lie."""
        return self.store.scratch_dir(**self.key)
