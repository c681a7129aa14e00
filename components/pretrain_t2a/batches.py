"""Latents and captions in memory, grouped by length, and which of them make up a training step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.corpus import CorpusLatent
from common.diffusion.text import tokenize
from common.errors import DataError
from common.seeding import derive_seed


@dataclass(frozen=True)
class Clips:
    """Corpus clips of one latent length.

    Attributes:
        latents: `(N, D, L)` float32.
        ids: `(N, S)` int64 token ids.
        mask: `(N, S)` int64, 1 = token.
        durations_s: `(N,)` float32.
    """

    latents: Tensor
    ids: Tensor
    mask: Tensor
    durations_s: Tensor

    def __len__(self) -> int:
        return len(self.latents)

    def rows(self, index: Tensor) -> Clips:
        """Some of the clips."""
        return Clips(self.latents[index], self.ids[index], self.mask[index], self.durations_s[index])


def group_by_length(clips: Iterable[CorpusLatent], tokenizer: Any) -> list[Clips]:
    """Clips in groups of equal latent length, shortest first.

    Raises:
        DataError: there are no clips.
    """
    rows: dict[int, list[CorpusLatent]] = defaultdict(list)
    for clip in clips:
        rows[clip.latent.shape[-1]].append(clip)
    if not rows:
        raise DataError("the corpus holds no latents: raise its number of clips and run prepare_corpus again")
    groups = []
    for _, group in sorted(rows.items()):
        ids, mask = tokenize(tokenizer, [clip.caption for clip in group])
        latents = torch.from_numpy(np.stack([clip.latent for clip in group]).astype(np.float32))
        groups.append(Clips(latents, ids, mask, torch.tensor([clip.duration_s for clip in group], dtype=torch.float32)))
    return groups


class Schedule:
    """The batch of every step; a pure function of seed and step, so a resumed run sees the same data.

    Each epoch goes through all clips once in random order, in batches of one length; a group's last batch is filled up
    with random clips of that group.
    """

    def __init__(self, groups: list[Clips], batch_size: int, seed: int) -> None:
        self._sizes = [len(group) for group in groups]
        self._batch_size, self._seed = batch_size, seed
        self._per_epoch = sum(-(-size // batch_size) for size in self._sizes)
        self._epoch, self._batches = -1, list[tuple[int, Tensor]]()

    def batch(self, step: int) -> tuple[int, Tensor]:
        """Group number and rows `(batch_size,)` of a step."""
        epoch, index = divmod(step, self._per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._shuffled(epoch)
        return self._batches[index]

    def _shuffled(self, epoch: int) -> list[tuple[int, Tensor]]:
        generator = torch.Generator().manual_seed(derive_seed(self._seed, "epoch", epoch))
        batches = []
        for number, size in enumerate(self._sizes):
            order = torch.randperm(size, generator=generator)
            missing = -size % self._batch_size
            order = torch.cat([order, torch.randint(size, (missing,), generator=generator)])
            batches += [(number, rows) for rows in order.split(self._batch_size)]
        return [batches[i] for i in torch.randperm(len(batches), generator=generator)]
