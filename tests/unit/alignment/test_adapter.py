from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from diffusers import StableAudioPipeline

from common.diffusion.backend import T2ABackend
from common.diffusion.backends.stable_audio import StableAudio
from common.errors import ConfigError
from components.align_t2a.adapter import Policy, make_policy
from tests.kit.models import build_t2a


def predict(backend: T2ABackend) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    noisy = torch.randn(2, backend.latent_channels, 12, generator=generator)
    condition = backend.condition(["sound of a bus", "jazz"], [0.3, 0.3])
    with torch.no_grad():
        return backend.predict(noisy, torch.tensor([0.3, 0.8]), condition)


def disturb(policy_module: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in policy_module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_the_reference_equals_the_base_model_whatever_was_trained(adapter: Literal["lora", "full"]) -> None:
    base = predict(build_t2a())
    policy = make_policy(build_t2a(), adapter, 4, 0)
    assert torch.equal(predict(policy.backend), base)
    disturb(policy.trained)
    moved = predict(policy.backend)
    assert not torch.allclose(moved, base, atol=1e-3)
    with policy.reference() as reference:
        assert torch.equal(predict(reference), base)
    assert torch.equal(predict(policy.backend), moved)


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_merged_directory_loads_in_the_stock_pipeline_and_predicts_as_the_policy(
    adapter: Literal["lora", "full"], tmp_path: Path
) -> None:
    policy = make_policy(build_t2a(), adapter, 4, 0)
    disturb(policy.trained)
    trained = predict(policy.backend)
    policy.merge()
    assert torch.allclose(predict(policy.backend), trained, atol=1e-5)
    policy.backend.save(tmp_path)
    stock = StableAudioPipeline.from_pretrained(tmp_path)
    assert torch.allclose(predict(StableAudio(stock)), trained, atol=1e-5)
    assert {p.name for p in (tmp_path / "transformer").iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }
    names = set(build_t2a().transformer.state_dict())
    assert set(stock.transformer.state_dict()) == names


def storages(policy: Policy) -> dict[int, int]:
    """Bytes of the weights of policy and reference by address: what they share counts once."""
    with policy.reference() as reference:
        modules = (policy.trained, policy.backend.transformer, reference.transformer)
        found = [p.untyped_storage() for module in modules for p in module.parameters()]
    return {storage.data_ptr(): storage.nbytes() for storage in found}


def test_lora_holds_the_weights_once_and_full_fine_tuning_holds_them_twice() -> None:
    base = sum(p.untyped_storage().nbytes() for p in build_t2a().transformer.parameters())
    lora, full = make_policy(build_t2a(), "lora", 2, 0), make_policy(build_t2a(), "full", 2, 0)
    adapters = sum(p.nbytes for name, p in lora.trained.named_parameters() if "lora_" in name)
    assert 0 < adapters < 0.2 * base
    assert sum(storages(lora).values()) == base + adapters
    assert sum(storages(full).values()) == 2 * base


def test_a_transformer_without_known_projections_is_refused() -> None:
    backend = build_t2a()
    backend.transformer = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="adapter=full"):
        make_policy(backend, "lora", 2, 0)


def test_lora_trains_the_attention_projections_alone_and_few_of_their_weights() -> None:
    policy = make_policy(build_t2a(), "lora", 2, 0)
    trained = {name: p for name, p in policy.trained.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    for projection in ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q", "attn2.to_v"):
        assert any(projection in name for name in trained), projection
    assert sum(p.numel() for p in trained.values()) < 0.3 * sum(p.numel() for p in policy.trained.parameters())


def test_adapters_start_the_same_for_one_seed_without_touching_the_global_generator() -> None:
    before = torch.random.get_rng_state()
    states = []
    for seed in (0, 0, 1):
        policy = make_policy(build_t2a(), "lora", 4, seed)
        states.append({n: p.detach().clone() for n, p in policy.trained.named_parameters() if "lora_A" in n})
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_text_encoder_projection_and_codec_are_not_trained() -> None:
    for adapter in ("lora", "full"):
        policy = make_policy(build_t2a(), adapter, 4, 0)  # type: ignore[arg-type] # a literal in a loop
        trained = {id(p) for p in policy.trained.parameters()}
        frozen = [policy.backend.text_encoder, policy.backend.projection, policy.backend.vae]
        assert not any(id(p) in trained for part in frozen for p in part.parameters())
