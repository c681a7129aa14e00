from __future__ import annotations

import gc
import weakref
from collections import Counter

import numpy as np
import pytest
import torch

from common.corpus.shards import CorpusLatent
from common.errors import DataError
from common.training import Part
from components.pretrain_t2a.batches import LatentStream, Plan, group_by_length
from tests.unit.diffusion.test_pretraining import ListShards, latent


def rows(lengths) -> list[CorpusLatent]:
    return [latent(i, np.full((2, length), i, dtype=np.float32)) for i, length in enumerate(lengths)]


def stream(shards, tokenizer, batch_size=4, buffer_clips=16, seed=0, **options) -> LatentStream:
    return LatentStream(shards, tokenizer, batch_size=batch_size, seed=seed, buffer_clips=buffer_clips, **options)


def numbers(batches: LatentStream, step: int, part: Part | None = None) -> list[int]:
    return batches.batch(step, part or Part())[0].latents[:, 0, 0].int().tolist()


@pytest.mark.parametrize("buffer_clips", [1000, 16], ids=["in memory", "streamed"])
def test_every_epoch_sees_every_clip_in_batches_of_one_length(tokenizer, buffer_clips):
    batches = stream(ListShards(rows([4, 6, 4] * 16)), tokenizer, buffer_clips=buffer_clips)
    # A batch of a length is filled up, so an epoch of groups can take a few steps more.
    per_epoch = batches.plan.first_step(3) if buffer_clips == 16 else 12
    for epoch in range(2):
        seen = [n for step in range(epoch * per_epoch, (epoch + 1) * per_epoch) for n in numbers(batches, step)]
        assert set(seen) == set(range(48))
        assert len(seen) == 4 * per_epoch
    assert batches.longest == 6


@pytest.mark.parametrize("buffer_clips", [1000, 16], ids=["in memory", "streamed"])
def test_the_batch_of_a_step_does_not_depend_on_the_steps_before(tokenizer, buffer_clips):
    walked = stream(ListShards(rows([4] * 48)), tokenizer, buffer_clips=buffer_clips)
    walk = [numbers(walked, step) for step in range(30)]
    for step in (29, 3, 17):
        assert numbers(stream(ListShards(rows([4] * 48)), tokenizer, buffer_clips=buffer_clips), step) == walk[step]
    assert walk != [numbers(stream(ListShards(rows([4] * 48)), tokenizer, seed=1), step) for step in range(30)]
    assert walk[:12] != walk[12:24]


def test_a_corpus_that_fits_is_drawn_as_one_permutation_of_each_length(tokenizer):
    batches = stream(ListShards(rows([4, 6] * 12)), tokenizer, buffer_clips=24)
    generator = torch.Generator().manual_seed(_epoch_seed(0))
    four, six = (torch.randperm(12, generator=generator).split(4) for _ in range(2))
    order = torch.randperm(6, generator=generator)
    expected = [[*four, *six][i] for i in order]
    lengths = [[4] * 3 + [6] * 3][0]
    for step, (place, kept) in enumerate(zip(order.tolist(), expected, strict=True)):
        assert numbers(batches, step) == [2 * n + (lengths[place] == 6) for n in kept.tolist()]


def _epoch_seed(epoch: int) -> int:
    from common.runtime.seeding import derive_seed

    return derive_seed(0, "epoch", epoch)


def test_parts_are_disjoint_and_make_up_the_batch(tokenizer):
    whole = stream(ListShards(rows([4] * 48)), tokenizer)
    parts = [Part(i, 2, 2) for i in range(2)]
    halves = [stream(ListShards(rows([4] * 48)), tokenizer, parts=[part]) for part in parts]
    for step in range(24):
        expected = numbers(whole, step)
        assert [n for half, part in zip(halves, parts, strict=True) for n in numbers(half, step, part)] == expected


def test_a_process_holds_its_own_clips_of_two_groups_and_no_more(tokenizer):
    alive: list[weakref.ref] = []

    class Watched(ListShards):
        def read_latent_shard(self, shard):
            for clip in super().read_latent_shard(shard):
                copied = clip.latent.copy()
                alive.append(weakref.ref(copied))
                yield clip._replace(latent=copied)

    shards = Watched(rows([4] * 64))
    batches = stream(shards, tokenizer, parts=[Part(0, 2, 2)])
    for step in range(40):
        clips, _ = batches.batch(step, Part(0, 2, 2))
        assert len(clips) == 2
        assert sum(len(kept) for kept, _ in batches._group.values()) == 8
    batches.close()
    gc.collect()
    assert alive and sum(reference() is not None for reference in alive) <= 32
    assert max(Counter(shards.reads).values()) <= 4


def test_a_corpus_that_fits_is_read_once(tokenizer):
    shards = ListShards(rows([4] * 16))
    batches = stream(shards, tokenizer)
    for step in range(40):
        batches.batch(step, Part())
    assert set(shards.reads.values()) == {1}


def test_nothing_is_read_ahead_that_will_not_be_asked_for(tokenizer):
    shards = ListShards(rows([4] * 64))
    batches = stream(shards, tokenizer, steps=4)
    for step in range(4):
        batches.batch(step, Part())
    batches.close()
    assert sum(shards.reads.values()) == 2


def test_planning_a_million_clips_needs_numbers_only():
    plan = Plan([{216: 500, 100: 12}] * 2000, batch_size=64, seed=0, buffer_clips=16_384)
    assert plan.batch(3 * 2000 * 512 // 64).group > 3 * 2000 // 32
    assert all(sum(plan.counts(group).values()) <= 16_384 for group in range(60))


def test_shards_that_differ_from_the_manifest_are_refused(tokenizer):
    for wrong in ({4: 9}, {4: 7, 6: 1}):
        shards = ListShards(rows([4] * 32))
        shards.lengths = [wrong] * 4
        with pytest.raises(DataError, match="manifest"):
            stream(shards, tokenizer).batch(0, Part())


def test_a_shard_that_cannot_be_read_ahead_ends_training_with_its_own_error(tokenizer):
    class Cut(ListShards):
        def read_latent_shard(self, shard):
            yield from super().read_latent_shard(shard)
            if sum(self.reads.values()) > 2:
                raise DataError("shard is damaged")

    batches = stream(Cut(rows([4] * 64)), tokenizer)
    with pytest.raises(DataError, match="damaged"):
        for step in range(8):
            batches.batch(step, Part())


def test_a_corpus_without_latents_is_a_data_error(tokenizer):
    with pytest.raises(DataError, match="no latents"):
        group_by_length([], tokenizer)
    with pytest.raises(DataError, match="no latents"):
        stream(ListShards([]), tokenizer)
