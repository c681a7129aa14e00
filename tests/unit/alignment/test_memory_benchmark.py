from __future__ import annotations

import pytest
import torch

from common.config.t2a import AlignT2AConfig
from tests.benchmarks.alignment_memory import PEERS, Peer, alignment_figures, make_peer, run_steps, training_bytes
from tests.kit.models import build_t2a


@pytest.mark.parametrize("peer", list(PEERS))
def test_bytes_are_those_of_the_closed_form(peer: Peer) -> None:
    backend = build_t2a()
    base = sum(p.numel() for p in backend.transformer.parameters())
    policy = make_peer(peer, backend, 2)
    trained = [p for p in policy.trained.parameters() if p.requires_grad]
    adapters = sum(p.numel() for p in trained) if peer != "full" else 0
    # Weight, gradient and two moments of what is trained, and AdamW's step count per tensor.
    weights = {"lora": base + 4 * adapters, "lora_copied": 2 * base + 4 * adapters, "full": 5 * base}[peer]
    assert training_bytes(policy) == 4 * (weights + len(trained))


@pytest.mark.e2e
def test_at_the_real_sizes_lora_needs_at_most_0_6_of_a_deep_copied_reference() -> None:
    figures = alignment_figures()
    measured = [figure for figure in figures if figure.value is not None]
    assert len(measured) >= 5 and all(figure.met for figure in measured)
    assert all(figure.reason for figure in figures if figure.value is None)
    assert measured[0].ours.endswith("4,359.88 MB")


@pytest.mark.parametrize("peer", list(PEERS))
def test_the_measured_steps_train(peer: Peer) -> None:
    policy = make_peer(peer, build_t2a(), 2)
    before = {name: p.detach().clone() for name, p in policy.trained.named_parameters() if p.requires_grad}
    assert run_steps(policy, AlignT2AConfig(), 2, 3, autocast=True) > 0
    assert any(not torch.equal(p, before[name]) for name, p in policy.trained.named_parameters() if name in before)
