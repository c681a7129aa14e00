from __future__ import annotations

import pytest
import torch
from torch import nn

from common.config.run import load_preset
from common.config.t2a import PretrainT2AConfig
from common.errors import ConfigError
from common.study.cost_table import costs
from components.pretrain_t2a.architecture import build_transformer
from components.pretrain_t2a.estimate import PUBLISHED, estimate_training, planned_numbers
from tests.unit.diffusion.conftest import tiny_config

TINY = {"sample_rate_hz": 16000, "hop_length": 512, "latent_channels": 48, "vae_parameters": 0, "vocabulary": 100}


def with_optim(config: PretrainT2AConfig, **optim) -> PretrainT2AConfig:
    return config.model_copy(update={"optim": config.optim.model_copy(update=optim)})


def test_the_paper_preset_is_stable_audios_size_and_takes_days_of_one_gpu():
    config = load_preset("paper")
    numbers = planned_numbers(config.prepare_corpus)
    assert numbers == PUBLISHED
    estimate = estimate_training(config.pretrain_t2a, numbers, 1)
    assert estimate.trained / 1e6 == pytest.approx(1057, rel=0.005)
    assert estimate.frozen / 1e6 == pytest.approx(156 + 341, rel=0.01)
    # 0.461 TFLOP forward for 10 s, three times that for a step.
    assert estimate.flops_per_clip / 1e12 == pytest.approx(3 * 0.461, rel=0.02)
    text = "\n".join(estimate.lines())
    assert "1,056,939,136 parameters learn" in text
    assert "1 x RTX4090 24 GB: does not fit" in text
    assert "1 x H200 141 GB: fits" in text


def test_flops_of_a_step_are_those_of_its_matrix_products():
    config = with_optim(tiny_config(), batch_size=4)
    estimate = estimate_training(config, TINY, 1)
    with torch.device("meta"):
        transformer = build_transformer(config, 48, 32)
    tokens, hidden = 33, 32
    linear = 0.0
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Linear):
            count = {"cross_attention_proj": 130, "timestep_proj": 1, "global_proj": 1, "proj_in": 32}.get(
                name.split(".")[0], tokens
            )
            if ".attn2.to_k" in name or ".attn2.to_v" in name:
                count = 130
            linear += 2 * count * module.in_features * module.out_features
    attention = 2 * (4 * tokens * tokens * hidden + 4 * tokens * 130 * hidden)
    convolution = 2 * 2 * 48 * 48 * 32
    assert estimate.flops_per_clip == pytest.approx(3 * (linear + attention + convolution), rel=0.02)


def test_memory_follows_precision_averaging_sharding_and_checkpointing():
    base = with_optim(tiny_config(), batch_size=8, ema_decay=0.0, precision="fp32")
    plain = estimate_training(base, TINY, 1)
    assert plain.fixed_bytes == 16 * plain.trained + 4 * plain.frozen
    assert estimate_training(with_optim(base, ema_decay=0.9), TINY, 1).fixed_bytes == 20 * plain.trained
    assert estimate_training(with_optim(base, sharding="fsdp"), TINY, 2).fixed_bytes == 8 * plain.trained
    assert estimate_training(base, TINY, 2).clips == 4
    assert estimate_training(with_optim(base, accumulation=4), TINY, 2).clips == 1
    saved = estimate_training(base.model_copy(update={"gradient_checkpointing": True}), TINY, 1)
    assert saved.activation_bytes < plain.activation_bytes
    assert saved.flops_per_clip == pytest.approx(plain.flops_per_clip * 4 / 3)


def test_twice_the_gpus_halve_the_time():
    config = with_optim(tiny_config(), batch_size=8)
    one, two = (estimate_training(config, TINY, count) for count in (1, 2))
    gpu = costs().gpus["H200"]
    assert two.clips_per_s(gpu) == pytest.approx(2 * one.clips_per_s(gpu))


def test_a_model_that_is_handed_on_has_no_estimate():
    with pytest.raises(ConfigError, match="handed on"):
        estimate_training(load_preset("small").pretrain_t2a, PUBLISHED, 1)
