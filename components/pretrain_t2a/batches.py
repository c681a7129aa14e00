"""Batch plan: which clips make up each training step, a pure function of seed and step.

The plan needs only the numbers of clips by shard and latent length; no shard is read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.corpus.shards import CorpusLatent
from common.diffusion.text import tokenize
from common.errors import DataError
from common.runtime.seeding import derive_seed


@dataclass(frozen=True)
class Clips:
    """Corpus clips of one latent length.

    Attributes:
        latents: `(N, D, L)` float32.
        ids: `(N, S)` int64 token ids.
        mask: `(N, S)` int64, 1 = token, 0 = padding.
        durations_s: `(N,)` float32.
    """

    latents: Tensor
    ids: Tensor
    mask: Tensor
    durations_s: Tensor
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.latents)

    def rows(self, index: Tensor) -> Clips:
        """Select clips by index."""
        captions = tuple(self.captions[i] for i in index.tolist())
        return Clips(self.latents[index], self.ids[index], self.mask[index], self.durations_s[index], captions)


def group_by_length(clips: Iterable[CorpusLatent], tokenizer: Any) -> list[Clips]:
    """Group clips by latent length, shortest first. Raises DataError: there are no clips."""
    rows: dict[int, list[CorpusLatent]] = defaultdict(list)
    for clip in clips:
        rows[clip.latent.shape[-1]].append(clip)
    if not rows:
        raise DataError("the corpus holds no latents: raise its number of clips and run prepare_corpus again")
    return [stack(group, tokenizer) for _, group in sorted(rows.items())]


def stack(clips: Sequence[CorpusLatent], tokenizer: Any) -> Clips:
    """Stack clips of equal latent length and tokenise their captions."""
    captions = tuple(clip.caption for clip in clips)
    ids, mask = tokenize(tokenizer, captions)
    latents = torch.from_numpy(np.stack([clip.latent for clip in clips]).astype(np.float32))
    return Clips(latents, ids, mask, torch.tensor([clip.duration_s for clip in clips], dtype=torch.float32), captions)


class Batch(NamedTuple):
    """Batch of one step.

    Attributes:
        group: index of the group of shards, counted over all epochs.
        rows: `(batch_size,)` indices into the group's clips of that length, in the order of the group's shards.
    """

    group: int
    length: int
    rows: Tensor


class Plan:
    """Plan of the shards and clips of every step.

    Each epoch visits all shards once in random order, in groups of as many shards as fit the buffer. Each clip of a
    group is used once, in random order, in batches of one length; the last batch of a length is filled up with random
    clips of that length. A corpus that fits the buffer is one group, the same in every epoch.

    Args:
        batch_size: over all processes together.
        seed: seeds the order of shards and clips.
        buffer_clips: largest number of clips in a group of several shards.

    Attributes:
        fits: whether the whole corpus fits the buffer.
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
            self._made = group, self._batches(group)
        length, rows = self._made[1][step - (self._ends[group - 1] if group else 0)]
        return Batch(group, length, rows)

    def batches(self, group: int) -> list[tuple[int, Tensor]]:
        """Latent length and rows of all batches of a group."""
        while len(self._groups) <= group:
            self._add_epoch()
        return self._batches(group)

    def first_step(self, group: int) -> int:
        """First step of a group."""
        while len(self._groups) <= group:
            self._add_epoch()
        return self._ends[group - 1] if group else 0

    def shards(self, group: int) -> tuple[int, ...]:
        """Shards of a group, in the order in which its clips are numbered."""
        while len(self._groups) <= group:
            self._add_epoch()
        return self._groups[group][2]

    def counts(self, group: int) -> dict[int, int]:
        """Number of a group's clips by latent length, shortest first."""
        total: Counter[int] = Counter()
        for shard in self.shards(group):
            total.update(self._lengths[shard])
        return dict(sorted(total.items()))

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

    def _batches(self, group: int) -> list[tuple[int, Tensor]]:
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
