"""Training batches from latent shards: one group of shards in memory, the next one prefetched in a thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import torch
from torch import Tensor

from common.corpus.shards import Corpus, CorpusLatent, Split
from common.errors import DataError
from common.training import Part
from components.pretrain_t2a.batches import Batch, Clips, Plan, stack

Group = dict[int, tuple[Clips, Tensor]]
"""By latent length: the clips that this process needs, and for each clip of the group its index among them, or -1."""


class Shards(Protocol):
    """Shards of encoded clips."""

    @property
    def clips(self) -> Sequence[int]:
        """Number of clips in each shard."""
        ...

    @property
    def lengths(self) -> Sequence[Mapping[int, int] | None]:
        """For each shard, the number of clips by latent length; None where unknown."""
        ...

    def read(self, shard: int) -> Iterator[CorpusLatent]:
        """Read the clips of one shard."""
        ...


class CorpusShards:
    """Latent shards of one split of a corpus.

    Args:
        corpus: may be read from several threads, one at a time.
    """

    def __init__(self, corpus: Corpus, split: Split) -> None:
        self._corpus, self._shards = corpus, corpus.shards_of("latents", split)
        self.clips = [shard.clips for shard in self._shards]
        self.lengths = [shard.lengths for shard in self._shards]

    def read(self, shard: int) -> Iterator[CorpusLatent]:
        """Read the clips of one shard."""
        return iter(self._corpus.read_latent_shard(self._shards[shard]))


class LatentStream:
    """Batches of all steps, a pure function of seed and step.

    Memory holds at most two groups of `buffer_clips` clips, reduced to the clips that this process trains on. A corpus
    that fits the buffer is read once and kept.

    Args:
        batch_size: over all processes together.
        seed: seeds the order of shards and clips.
        buffer_clips: largest number of clips in a group of several shards.
        steps: number of steps; nothing is prefetched beyond them.

    Attributes:
        clips: number of clips of all shards.
        plan: the batch plan.

    Raises DataError: there are no clips, or the corpus is larger than the buffer and states no latent lengths.
    """

    def __init__(
        self,
        shards: Shards,
        tokenizer: Any,
        *,
        batch_size: int,
        seed: int,
        buffer_clips: int,
        parts: Sequence[Part] = (Part(),),
        steps: int | None = None,
    ) -> None:
        if not sum(shards.clips):
            raise DataError("the corpus holds no latents: raise its number of clips and run prepare_corpus again")
        self._shards, self._tokenizer, self._parts, self._steps = shards, tokenizer, parts, steps
        self.clips = sum(shards.clips)
        fits = self.clips <= buffer_clips
        lengths = _read_lengths(shards) if fits else _known_lengths(shards)
        self.plan = Plan(lengths, batch_size, seed, buffer_clips)
        self._batch_size = batch_size
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="latents")
        self._number, self._group = -1, Group()
        self._ahead: tuple[int, Future[Group]] | None = None

    @property
    def lengths(self) -> list[int]:
        """Latent lengths in the first group, shortest first."""
        return list(self.plan.counts(0))

    def batch(self, step: int, part: Part) -> tuple[Clips, int]:
        """Clips of one part of a step's batch, and the batch size over all parts."""
        with part.waiting.running():
            batch = self.plan.batch(step)
            clips, places = self._loaded(batch)[batch.length]
            return clips.rows(places[batch.rows[part.rows(self._batch_size)]]), self._batch_size

    def close(self) -> None:
        """Stop prefetching."""
        self._reader.shutdown(wait=False, cancel_futures=True)

    def _loaded(self, batch: Batch) -> Group:
        number = 0 if self.plan.fits else batch.group
        if number != self._number:
            if self._ahead is not None and self._ahead[0] == number:
                self._group = self._ahead[1].result()
            else:
                self._group = {}
                self._group = self._reader.submit(self._read, number).result()
            self._number, self._ahead = number, None
            if not self.plan.fits and self._wanted(number + 1):
                self._ahead = number + 1, self._reader.submit(self._read, number + 1)
        return self._group

    def _wanted(self, group: int) -> bool:
        return self._steps is None or self.plan.first_step(group) < self._steps

    def _read(self, number: int) -> Group:
        counts = self.plan.counts(number)
        needed = self._needed(number, counts)
        rows: dict[int, list[CorpusLatent]] = {length: [] for length in counts}
        seen: Counter[int] = Counter()
        for shard in self.plan.shards(number):
            for clip in self._shards.read(shard):
                length = clip.latent.shape[-1]
                if seen[length] >= counts.get(length, 0):
                    raise DataError(
                        f"shard {shard} differs from its manifest in latent lengths; run prepare_corpus again"
                    )
                if needed[length][seen[length]]:
                    rows[length].append(clip)
                seen[length] += 1
        if dict(seen) != counts:
            raise DataError("shards hold fewer clips than their manifest says; run prepare_corpus again")
        return {
            length: (stack(kept, self._tokenizer), _places(needed[length])) for length, kept in rows.items() if kept
        }

    def _needed(self, number: int, counts: Mapping[int, int]) -> dict[int, Tensor]:
        if self.plan.fits:
            return {length: torch.ones(count, dtype=torch.bool) for length, count in counts.items()}
        needed = {length: torch.zeros(count, dtype=torch.bool) for length, count in counts.items()}
        for length, rows in self.plan.batches(number):
            for part in self._parts:
                needed[length][rows[part.rows(self._batch_size)]] = True
        return needed


def _places(needed: Tensor) -> Tensor:
    return torch.where(needed, needed.long().cumsum(0) - 1, -1)


def _read_lengths(shards: Shards) -> list[Mapping[int, int]]:
    return [
        known if known is not None else Counter(clip.latent.shape[-1] for clip in shards.read(number))
        for number, known in enumerate(shards.lengths)
    ]


def _known_lengths(shards: Shards) -> list[Mapping[int, int]]:
    known = [lengths for lengths in shards.lengths if lengths is not None]
    if len(known) < len(shards.lengths):
        raise DataError(
            "the corpus is larger than pretrain_t2a.buffer_clips and its manifest gives no latent lengths; run "
            "prepare_corpus again, or raise buffer_clips if memory allows"
        )
    return known
