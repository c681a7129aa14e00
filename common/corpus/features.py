"""Features of a corpus's clips on the local disk: one part per shard, read as memory maps.

A part is published only when complete, so a killed stage resumes at the first missing one. Memory holds
one clip during writing, and the offsets of all clips (16 bytes each) during reading.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.corpus.shards import Corpus, CorpusClip, Shard, Split, read_audio_shard
from common.errors import DataError
from common.runtime.parallel import run_all
from common.storage import publish_dir, read_json, write_json

Source = TypeVar("Source")
Facts = Mapping[str, Any]
Precision = Literal["float32", "float16"]

SAMPLE_VALUES = 2**25
"""Number of values that statistics are computed from, at most."""


class ShardClips(NamedTuple):
    """The first `clips` clips of a shard: a source for `write_features`."""

    corpus_dir: Path
    shard: Shard
    clips: int

    def read(self) -> Iterator[CorpusClip]:
        """Read the clips. Raises DataError: the shard is damaged."""
        with Corpus(self.corpus_dir).open_shard(self.shard) as file:
            yield from islice(read_audio_shard(file), self.clips)


def audio_shards(corpus_dir: Path, split: Split, max_clips: int | None) -> list[ShardClips]:
    """Audio shards with the first `max_clips` clips of a split; None = all."""
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
    """Write one part per source, in parallel; existing parts are kept.

    Args:
        sources: picklable, in the order of the clips.
        read: picklable; yields for each clip its features, (R, …) with R > 0 and otherwise equal shapes,
            and further facts, as JSON values.

    Raises:
        StorageError: the disk is full or not writable.
        SynthioError: raised by `read`.

    Returns all parts together.
    """
    missing = [(number, source) for number, source in enumerate(sources) if not _part(folder, number).is_dir()]
    threads = torch.get_num_threads()
    try:
        run_all(partial(_write_part, folder, read, precision), missing)
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


class _Part(NamedTuple):
    """Values (rows, …) and facts of at least one clip, with the offsets (clips + 1,) of each clip's rows and facts."""

    values: Tensor
    facts: Tensor
    rows: NDArray[np.int64]
    characters: NDArray[np.int64]


class StoredFeatures:
    """Reader of the parts written by `write_features`. Processes that open the same folder share the memory."""

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
        return part.values[part.rows[place] : part.rows[place + 1]].to(torch.float32, copy=True)

    def facts(self, index: int) -> dict[str, Any]:
        """Facts about a clip."""
        part, place = self._clip(index)
        text = part.facts[part.characters[place] : part.characters[place + 1]]
        known: dict[str, Any] = json.loads(text.numpy().tobytes())
        return known

    def row(self, index: int) -> Tensor:
        """Row number `index` among the rows of all clips, (…), float32."""
        number = _place(self._first_rows, index)
        return self._parts[number].values[index - int(self._first_rows[number])].to(torch.float32, copy=True)

    def owner(self, row: int) -> int:
        """Index of the clip that a row belongs to."""
        number = _place(self._first_rows, row)
        place = _place(self._parts[number].rows, row - int(self._first_rows[number]))
        return int(self._first_clips[number]) + place

    def sample(self, values: int = SAMPLE_VALUES) -> Tensor:
        """Rows of all clips in order, (N, …); beyond about `values` values, those of evenly spaced clips.

        Raises DataError: there are no clips.
        """
        if not len(self):
            raise DataError("the corpus has no clips to take features from; run prepare_corpus with keep_audio: true")
        held = self.rows * self._parts[0].values[0].numel()
        count = max(1, len(self) * values // held) if held > values else len(self)
        chosen = np.linspace(0, len(self) - 1, count).round().astype(int)
        return torch.cat([self.clip(index) for index in chosen.tolist()])

    def _clip(self, index: int) -> tuple[_Part, int]:
        number = _place(self._first_clips, index)
        return self._parts[number], index - int(self._first_clips[number])


def _place(firsts: NDArray[np.int64], index: int) -> int:
    return int(np.searchsorted(firsts, index, side="right")) - 1


def _open(folder: Path) -> _Part | None:
    """Open a part as memory maps; None without clips, because an empty file cannot be mapped.

    Unlike those of NumPy, the maps keep no file open: a corpus has thousands of parts, a process often 1024 files.
    """
    try:
        told = read_json(folder / "part.json")
        rows, characters = np.load(folder / "places.npy", allow_pickle=False)
        if len(rows) == 1:
            return None
        shape, precision = (int(rows[-1]), *told["shape"]), getattr(torch, told["precision"])
        values = torch.from_file(str(folder / "values.bin"), size=math.prod(shape), dtype=precision).view(shape)
        facts = torch.from_file(str(folder / "facts.jsonl"), size=int(characters[-1]), dtype=torch.uint8)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise DataError(f"features in {folder} are damaged ({error}); delete {folder.parent} and run again") from error
    return _Part(values, facts, rows, characters)
