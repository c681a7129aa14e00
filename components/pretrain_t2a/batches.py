"""Training batches from latent shards: a plan of which clips make up each step, and the stream that reads them."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.corpus.shards import Corpus, CorpusLatent
from common.diffusion.text import tokenize
from common.errors import DataError
from common.runtime.seeding import derive_seed
from common.training import Part

NO_LATENTS = "the corpus holds no latents: raise its number of clips and run prepare_corpus again"


@dataclass(frozen=True)
class Clips:
    """Corpus clips of one latent length: latents `(N, D, L)` float32, ids and mask `(N, S)` int64, durations `(N,)`."""

    latents: Tensor
    ids: Tensor
    mask: Tensor
    durations_s: Tensor

    def __len__(self) -> int:
        return len(self.latents)

    def rows(self, index: Tensor) -> Clips:
        """Select clips by index."""
        return Clips(self.latents[index], self.ids[index], self.mask[index], self.durations_s[index])


def group_by_length(clips: Iterable[CorpusLatent], tokenizer: Any) -> list[Clips]:
    """Group clips by latent length, shortest first. Raises DataError: there are no clips."""
    rows: dict[int, list[CorpusLatent]] = defaultdict(list)
    for clip in clips:
        rows[clip.latent.shape[-1]].append(clip)
    if not rows:
        raise DataError(NO_LATENTS)
    return [stack(group, tokenizer) for _, group in sorted(rows.items())]


def stack(clips: Sequence[CorpusLatent], tokenizer: Any) -> Clips:
    """Stack clips of equal latent length and tokenise their captions."""
    ids, mask = tokenize(tokenizer, [clip.caption for clip in clips])
    latents = torch.from_numpy(np.stack([clip.latent for clip in clips]).astype(np.float32))
    return Clips(latents, ids, mask, torch.tensor([clip.duration_s for clip in clips], dtype=torch.float32))


class Batch(NamedTuple):
    """group of shards, counted over all epochs, and `(batch_size,)` rows of its clips of a length."""

    group: int
    length: int
    rows: Tensor


class Plan:
    """Plan of the shards and clips of every step, a pure function of seed and step; no shard is read.

    Each epoch visits all shards once in random order, in groups of as many shards as fit the buffer. Each clip of a
    group is used once, in random order, in batches of one length; the last batch of a length is filled up with random
    clips of that length. A corpus that fits the buffer is one group, the same in every epoch.

    Args:
        batch_size: over all processes together.
        buffer_clips: largest number of clips in a group of several shards.
    """

    def __init__(self, lengths: Sequence[Mapping[int, int]], batch_size: int, seed: int, buffer_clips: int) -> None:
        self._lengths, self._batch_size, self._seed, self._buffer = lengths, batch_size, seed, buffer_clips
        self._sizes = [sum(shard.values()) for shard in lengths]
        self.fits = sum(self._sizes) <= buffer_clips
        self._groups: list[tuple[int, int, tuple[int, ...]]] = []
        self._ends: list[int] = []
        self._made: tuple[int, list[tuple[int, Tensor]]] = (-1, [])

    def batch(self, step: int) -> Batch:
        """Batch of a step; steps count from 0."""
        while not self._ends or self._ends[-1] <= step:
            self._add_epoch()
        group = bisect_right(self._ends, step)
        if self._made[0] != group:
            self._made = group, self.batches(group)
        length, rows = self._made[1][step - self.first_step(group)]
        return Batch(group, length, rows)

    def batches(self, group: int) -> list[tuple[int, Tensor]]:
        """Latent length and rows of all batches of a group."""
        self._reach(group)
        epoch, index, _ = self._groups[group]
        names = ("epoch", epoch) if self.fits else ("epoch", epoch, "group", index)
        generator = torch.Generator().manual_seed(derive_seed(self._seed, *names))
        batches = []
        for length, count in self.counts(group).items():
            order = torch.randperm(count, generator=generator)
            missing = -count % self._batch_size
            order = torch.cat([order, torch.randint(count, (missing,), generator=generator)])
            batches += [(length, rows) for rows in order.split(self._batch_size)]
        return [batches[i] for i in torch.randperm(len(batches), generator=generator)]

    def first_step(self, group: int) -> int:
        """First step of a group."""
        self._reach(group)
        return self._ends[group - 1] if group else 0

    def shards(self, group: int) -> tuple[int, ...]:
        """Shards of a group, in the order in which its clips are numbered."""
        self._reach(group)
        return self._groups[group][2]

    def counts(self, group: int) -> dict[int, int]:
        """Number of a group's clips by latent length, shortest first."""
        total: Counter[int] = Counter()
        for shard in self.shards(group):
            total.update(self._lengths[shard])
        return dict(sorted(total.items()))

    def _reach(self, group: int) -> None:
        while len(self._groups) <= group:
            self._add_epoch()

    def _add_epoch(self) -> None:
        epoch = self._groups[-1][0] + 1 if self._groups else 0
        for index, shards in enumerate(self._divided(epoch)):
            self._groups.append((epoch, index, shards))
            batches = sum(-(-count // self._batch_size) for count in self.counts(len(self._groups) - 1).values())
            self._ends.append((self._ends[-1] if self._ends else 0) + batches)

    def _divided(self, epoch: int) -> list[tuple[int, ...]]:
        if self.fits:
            return [tuple(range(len(self._sizes)))]
        generator = torch.Generator().manual_seed(derive_seed(self._seed, "shards", epoch))
        groups: list[tuple[int, ...]] = []
        room = 0
        for shard in torch.randperm(len(self._sizes), generator=generator).tolist():
            if not groups or self._sizes[shard] > room:
                groups.append(())
                room = self._buffer
            groups[-1] += (shard,)
            room -= self._sizes[shard]
        return groups


Group = dict[int, tuple[Clips, Tensor]]
"""By latent length: the clips that this process needs, and for each clip of the group its index among them, or -1."""


class LatentStream:
    """Batches of all steps from a corpus's training clips, a pure function of seed and step.

    Memory holds at most two groups of `buffer_clips` clips, reduced to the clips that this process trains on. A corpus
    that fits the buffer is read once and kept.

    Args:
        batch_size: over all processes together.
        steps: nothing is prefetched beyond them.

    Attributes:
        longest: latent length of the longest clip.

    Raises DataError: there are no clips.
    """

    def __init__(
        self,
        corpus: Corpus,
        tokenizer: Any,
        *,
        batch_size: int,
        seed: int,
        buffer_clips: int,
        parts: Sequence[Part] = (Part(),),
        steps: int | None = None,
    ) -> None:
        self._corpus, self._shards = corpus, corpus.shards_of("latents", "train")
        self._tokenizer, self._parts, self._steps = tokenizer, parts, steps
        self.clips = sum(shard.clips for shard in self._shards)
        if not self.clips:
            raise DataError(NO_LATENTS)
        lengths = [shard.lengths or {} for shard in self._shards]
        self.plan = Plan(lengths, batch_size, seed, buffer_clips)
        self.longest = max(length for shard in lengths for length in shard)
        self._batch_size = batch_size
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="latents")
        self._number, self._group = -1, Group()
        self._ahead: tuple[int, Future[Group]] | None = None

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
            if not self.plan.fits and (self._steps is None or self.plan.first_step(number + 1) < self._steps):
                self._ahead = number + 1, self._reader.submit(self._read, number + 1)
        return self._group

    def _read(self, number: int) -> Group:
        counts = self.plan.counts(number)
        needed = self._needed(number, counts)
        rows: dict[int, list[CorpusLatent]] = {length: [] for length in counts}
        seen: Counter[int] = Counter()
        for shard in self.plan.shards(number):
            for clip in self._corpus.read_latent_shard(self._shards[shard]):
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
        places = {length: torch.where(own, own.long().cumsum(0) - 1, -1) for length, own in needed.items()}
        return {length: (stack(kept, self._tokenizer), places[length]) for length, kept in rows.items() if kept}

    def _needed(self, number: int, counts: Mapping[int, int]) -> dict[int, Tensor]:
        if self.plan.fits:
            return {length: torch.ones(count, dtype=torch.bool) for length, count in counts.items()}
        needed = {length: torch.zeros(count, dtype=torch.bool) for length, count in counts.items()}
        for length, rows in self.plan.batches(number):
            for part in self._parts:
                needed[length][rows[part.rows(self._batch_size)]] = True
        return needed
