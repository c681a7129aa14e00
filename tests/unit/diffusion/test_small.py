"""Stable Audio Open Small through the interface of every back end."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_lcm import FlowMatchLCMScheduler

from common.config.base import OptimConfig
from common.config.t2a import SamplerConfig
from common.diffusion.backend import backend_class, error, load_backend
from common.diffusion.backends.stable_audio_small import FlowSolver, StableAudioSmall, flow_times
from common.diffusion.objective import FLOW, Noise
from common.diffusion.sampling import sample
from common.diffusion.stable_audio_small import StableAudioSmallDiT
from common.errors import DataError
from components.align_t2a.adapter import make_policy
from components.pretrain_t2a.architecture import build_pipeline
from components.pretrain_t2a.pretraining import pretrain
from components.pretrain_t2a.published import verify
from tests.unit.diffusion.conftest import tiny_config
from tests.unit.diffusion.test_pretraining import CAPTIONS, ListShards, latent

SAMPLER = SamplerConfig(steps=8, guidance_scale=1, batch_size=4)


def small_config():
    optim = OptimConfig(steps=6, batch_size=8, learning_rate=2e-3)
    return tiny_config().model_copy(update={"backend": "stable_audio_small", "optim": optim, "keep_best_by": "last"})


@pytest.fixture
def small(codec, tokenizer) -> StableAudioSmall:
    backend = build_pipeline(small_config(), codec, tokenizer, seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for conv in (backend.transformer.preprocess_conv, backend.transformer.postprocess_conv):
            conv.weight.copy_(0.1 * torch.randn(conv.weight.shape, generator=generator))
    return backend


def generators(count):
    return [torch.Generator().manual_seed(i) for i in range(count)]


def test_default_shapes_are_the_published_ones():
    with torch.device("meta"):
        transformer = StableAudioSmallDiT()
    assert sum(p.numel() for p in transformer.parameters()) / 1e6 == pytest.approx(341, rel=0.001)
    assert transformer.config.sample_size * 2048 / 44100 == pytest.approx(11.9, abs=0.02)


def test_a_saved_model_is_recognised_and_loads_bit_exact(small, tmp_path):
    small.save(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["_class_name"] == "StableAudioSmallPipeline"
    assert verify(tmp_path, {}) > 0
    loaded = load_backend(tmp_path)
    assert type(loaded) is StableAudioSmall
    before, after = (b.condition(CAPTIONS[:3], [1.0, 0.7, 0.5]) for b in (small, loaded))
    x, t = torch.randn(3, 48, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([0.1, 0.5, 0.9])
    assert torch.equal(small.predict(x, t, before), loaded.predict(x, t, after))


def test_the_length_enters_as_one_number_and_the_null_condition_keeps_it(small):
    condition = small.condition(["a", "b"], [0.5, 1.0])
    assert condition.cross.shape == (2, 65, 32)
    assert condition.global_.shape == (2, 1, 32)
    assert torch.equal(condition.cross[:, -1:], condition.global_)
    null = small.null(condition)
    assert not null.cross.any()
    assert torch.equal(null.global_, condition.global_)


def test_flow_goes_straight_from_clean_to_noise():
    generator = torch.Generator().manual_seed(0)
    z, eps, t = (torch.randn(4, 2, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    t = t[:, 0, 0].sigmoid()
    h = 1e-5
    slope = (FLOW.noisy(z, eps, t + h) - FLOW.noisy(z, eps, t - h)) / (2 * h)
    assert torch.allclose(slope, FLOW.target(z, eps, t), atol=1e-8)
    clean = FLOW.noisy(z, eps, t) - t[:, None, None] * FLOW.target(z, eps, t)
    assert torch.allclose(clean, z)


@pytest.mark.parametrize(
    ("scheduler", "renewing"), [(FlowMatchEulerDiscreteScheduler, False), (FlowMatchLCMScheduler, True)]
)
def test_steps_equal_those_of_diffusers(scheduler, renewing):
    times = flow_times(8)
    reference = scheduler()
    reference.set_timesteps(sigmas=times[:-1].numpy())
    assert torch.allclose(reference.sigmas, times, atol=1e-6)
    own, stock = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    noise = Noise([own], (2, 8), 1)
    solver = FlowSolver(times, noise if renewing else None, None)
    x = y = solver.start(torch.ones(1, 2, 8), None)
    for t, step in zip(solver.times, reference.timesteps, strict=True):
        v = torch.sin(3 * x) * t
        x = solver.step(v, t, x)
        y = reference.step(v, step, y, **({"generator": stock} if renewing else {})).prev_sample
        assert torch.allclose(x, y, atol=1e-5)


def test_the_flow_of_one_point_leads_to_it_from_any_noise():
    point = torch.linspace(-1, 1, 16).reshape(1, 2, 8)
    for level in (None, 0.5):
        solver = FlowSolver(flow_times(8), None, level)
        x = solver.start(
            torch.randn(1, 2, 8, generator=torch.Generator().manual_seed(0)), None if level is None else point
        )
        for t in solver.times:
            x = solver.step((x - point) / t, t, x)
        assert torch.allclose(x, point, atol=1e-5)


@pytest.mark.parametrize("scheduler", [FlowMatchEulerDiscreteScheduler, FlowMatchLCMScheduler])
def test_it_samples_and_a_clip_does_not_depend_on_its_neighbours(small, scheduler):
    small.pipeline.scheduler = scheduler()
    backend = StableAudioSmall(small.pipeline)
    many = sample(backend, CAPTIONS[:6], [1.0] * 6, generators(6), SAMPLER, 32)
    assert many.shape == (6, 48, 32)
    assert torch.isfinite(many).all()
    alone = sample(backend, CAPTIONS[4:5], [1.0], generators(6)[4:5], SAMPLER, 32)
    assert torch.allclose(alone[0], many[4], atol=1e-4)
    guiding = SamplerConfig(steps=8, guidance_scale=3, batch_size=4)
    guided = sample(backend, CAPTIONS[:6], [1.0] * 6, generators(6), guiding, 32)
    assert not torch.allclose(guided, many, atol=1e-2)
    assert backend.decode(many[:1]).shape == (1, 1, 32 * 512)


def test_it_starts_from_a_clip(small):
    source = torch.randn(2, 48, 32, generator=torch.Generator().manual_seed(3))
    near = sample(small, CAPTIONS[:2], [1.0] * 2, generators(2), SAMPLER, 32, (source, 0.2))
    far = sample(small, CAPTIONS[:2], [1.0] * 2, generators(2), SAMPLER, 32, (source, 1.0))
    assert (near - source).norm() < (far - source).norm()


def test_it_trains(codec, tokenizer, clips):
    latents = codec.encode(torch.from_numpy(clips)[:, None]).latent_dist.mode().numpy()
    rows = [latent(i, z, CAPTIONS[i]) for i, z in enumerate(latents)]
    losses = {}
    for steps in (1, 40):
        config = small_config()
        config = config.model_copy(update={"optim": config.optim.model_copy(update={"steps": steps})})
        backend = build_pipeline(config, codec, tokenizer, seed=0)
        record = pretrain(ListShards(rows[6:]), rows[:6], backend, config, train_text_encoder=True, seed=0)
        losses[steps] = record["held_out_loss"]
    assert losses[40] < 0.9 * losses[1]


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_it_aligns_against_itself_and_is_saved_as_a_plain_model(small, adapter, tmp_path):
    z = torch.randn(4, 48, 32, generator=torch.Generator().manual_seed(0))
    eps, t = torch.randn(z.shape, generator=torch.Generator().manual_seed(1)), torch.tensor([0.2, 0.4, 0.6, 0.8])
    with torch.no_grad():
        condition = small.condition(CAPTIONS[:4], [1.0] * 4)
    policy = make_policy(small, adapter, 4, 0)
    optimizer = torch.optim.SGD([p for p in policy.trained.parameters() if p.requires_grad], lr=0.1)
    with policy.reference() as reference, torch.no_grad():
        before = error(reference, z, eps, t, condition)
    for _ in range(3):
        optimizer.zero_grad()
        error(policy.backend, z, eps, t, condition).mean().backward()
        optimizer.step()
    with policy.reference() as reference, torch.no_grad():
        assert torch.allclose(error(reference, z, eps, t, condition), before, atol=1e-5)
    aligned = error(policy.backend, z, eps, t, condition).detach()
    assert aligned.mean() < before.mean()
    policy.merge()
    policy.backend.save(tmp_path)
    merged = error(load_backend(tmp_path), z, eps, t, condition)
    assert np.allclose(merged.detach(), aligned, atol=1e-4)


def test_an_unknown_pipeline_is_refused_by_name(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "AudioLDM2Pipeline"}')
    with pytest.raises(
        DataError, match="AudioLDM2Pipeline, expected a StableAudioPipeline or StableAudioSmallPipeline"
    ):
        backend_class(tmp_path)
