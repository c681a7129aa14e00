"""What an alignment step keeps in memory, and how it is made to fit the GPU."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from common.config.run import load_preset
from common.config.t2a import AlignT2AConfig, PretrainT2AConfig, TransformerConfig
from components.align_t2a import memory
from components.align_t2a.adapter import Policy, make_policy
from components.align_t2a.alignment import align
from components.align_t2a.encoding import EncodedPairs
from components.align_t2a.memory import Need, fit_memory, measure, split
from tests.benchmarks.alignment_memory import make_peer, random_bucket, real_size
from tests.benchmarks.meta import CudaAutocast
from tests.kit.gpu import pretend_gpu
from tests.kit.models import build_t2a

GIB = 2**30
CARD = 23.5 * GIB
"""A 24 GB card, less CUDA's context."""
PIPELINE = 5.3e9
"""Stable Audio Open in fp32."""
SETTINGS = AlignT2AConfig.model_validate(
    {
        "beta": 50.0,
        "adapter": "full",
        "optim": {"steps": 6, "batch_size": 4, "learning_rate": 1e-3, "record_every": 1, "schedule": "constant"},
    }
)


@pytest.mark.parametrize(
    ("available", "batch_size", "asked", "expected"),
    [
        (100.0, 8, (1, False), (1, False)),
        (42.0, 8, (1, False), (1, False)),
        (41.9, 8, (1, False), (2, False)),
        (21.9, 8, (1, False), (4, False)),
        (7.0, 8, (1, False), (8, False)),
        (6.9, 8, (1, False), (8, True)),
        (-5.0, 8, (1, False), (8, True)),
        (100.0, 8, (2, True), (2, True)),
        (22.0, 6, (1, False), (2, False)),
        (16.9, 6, (1, False), (3, False)),
        (12.0, 7, (1, False), (7, False)),
    ],
)
def test_a_batch_is_split_as_little_as_fits(
    available: float, batch_size: int, asked: tuple[int, bool], expected: tuple[int, bool]
) -> None:
    assert split(Need(fixed=2.0, pair=5.0), available, batch_size, *asked) == expected


@cache
def real_policy(layers: int) -> Policy:
    shape = TransformerConfig(num_layers=layers, window_s=47.55)
    return make_peer("lora", real_size(PretrainT2AConfig(transformer=shape), "meta"), 16)


def counted_need(seconds: float) -> Need:
    """Of Stable Audio Open's sizes with LoRA; all blocks are alike, so two small networks tell that of the large one."""
    kept: dict[tuple[int, int], float] = {}
    for layers in (1, 2):
        policy = real_policy(layers)
        for clips in (1, 2):
            bucket = random_bucket(policy.backend, clips, policy.backend.frames(seconds), 130)
            with CudaAutocast():
                kept[layers, clips] = memory.saved_bytes(
                    policy.trained,
                    lambda b=policy.backend, u=bucket: memory.predict_error(b, u.losers.to("meta"), u.condition),
                )
    one, two = (kept[1, clips] + 23 * (kept[2, clips] - kept[1, clips]) for clips in (1, 2))
    return Need(2 * one - two, 2 * (two - one))


@pytest.mark.parametrize(("preset", "seconds"), [("small", 5.0), ("small", 30.0), ("small", 47.5), ("paper", 10.0)])
def test_small_and_paper_fit_a_card_of_24_gb_whatever_the_clips_last(preset: str, seconds: float) -> None:
    need, optim = counted_need(seconds), load_preset(preset).align_t2a.optim
    available = CARD - PIPELINE - memory.RESERVE * 24 * GIB
    count, checkpointing = split(need, available, optim.batch_size, optim.accumulation, False)
    assert need.fixed + optim.batch_size // count * need.pair < available and not checkpointing
    whole = need.fixed + optim.batch_size * need.pair < available
    assert whole is (count == 1) is (seconds == 5.0)
    # Twice as many pairs at a time would not fit; so the split is the smallest.
    assert whole or need.fixed + 2 * optim.batch_size // count * need.pair > available


def run(policy: Policy, pairs: EncodedPairs, settings: AlignT2AConfig) -> list[dict[str, float]]:
    return align(
        policy, pairs, settings, "dpo", {"spectrum_db": 2.0}, lambda: {"spectrum_db": 1.0}, seed=7, name="test"
    )


@pytest.mark.parametrize(
    ("fitting", "expected"), [(9.5, (1, False)), (2.5, (2, False)), (1.5, (4, False)), (0.5, (4, True))]
)
def test_the_memory_of_the_card_changes_the_split_and_not_the_course_of_training(
    monkeypatch: pytest.MonkeyPatch, pairs: EncodedPairs, fitting: float, expected: tuple[int, bool]
) -> None:
    untouched = make_policy(build_t2a(), "full", 4, 7)
    assert fit_memory(untouched, pairs, SETTINGS) is SETTINGS
    plain = run(untouched, pairs, SETTINGS)
    policy = make_policy(build_t2a(), "full", 4, 7)
    need = measure(policy, pairs.buckets[-1], "fp32")
    assert 0 < need.pair < 10e6 and need.fixed >= 0
    trained = 4 * sum(p.numel() for p in policy.trained.parameters() if p.requires_grad)
    available = need.fixed + fitting * need.pair + memory.TRAINING_COPIES * trained
    pretend_gpu(monkeypatch, gib=0.0, free_gib=available / GIB)
    settings = fit_memory(policy, pairs, SETTINGS)
    assert (settings.optim.accumulation, settings.gradient_checkpointing) == expected
    for row, other in zip(plain, run(policy, pairs, settings), strict=True):
        assert row == pytest.approx(other, rel=1e-3, abs=1e-5)


def test_a_card_too_small_to_measure_on_gets_the_frugal_setting(
    monkeypatch: pytest.MonkeyPatch, pairs: EncodedPairs
) -> None:
    def full(*arguments: Any) -> float:
        raise torch.OutOfMemoryError

    pretend_gpu(monkeypatch)
    monkeypatch.setattr(memory, "saved_bytes", full)
    policy = make_policy(build_t2a(), "full", 4, 7)
    settings = fit_memory(policy, pairs, SETTINGS)
    assert (settings.optim.accumulation, settings.gradient_checkpointing) == (4, True)
    assert policy.backend.transformer.gradient_checkpointing


def test_recomputed_activations_take_less_memory_than_kept_ones(pairs: EncodedPairs) -> None:
    plain, frugal = (
        measure(make_policy(build_t2a(), "lora", 4, 7, checkpointing), pairs.buckets[-1], "bf16").pair
        for checkpointing in (False, True)
    )
    assert frugal < 0.5 * plain
