from __future__ import annotations

import diffusers.schedulers.scheduling_cosine_dpmsolver_multistep as scheduling
import pytest
import torch

from common.config.t2a import SamplerConfig
from common.diffusion.sampling import TextCache, sample
from common.errors import ConfigError

CAPTIONS = ["sound of a bell", "a loud dog bark", "siren", "sound of a drum", "rain", "sound of a whistle"]


def draw(backend, rows, batch_size, sampler=None, **changes):
    settings = SamplerConfig(steps=6, guidance_scale=2.5, batch_size=batch_size, **(sampler or {}))
    return sample(backend, [CAPTIONS[i] for i in rows], [1.024] * len(rows), seeded(rows), settings, 32, **changes)


def seeded(rows):
    return [torch.Generator().manual_seed(1000 + i) for i in rows]


def stock(backend, captions, generators, **changes):
    return backend.pipeline(
        captions, audio_end_in_s=1.024, num_inference_steps=6, output_type="latent", generator=generators,
        **({"guidance_scale": 2.5} | changes),
    ).audios  # fmt: skip


@pytest.mark.parametrize("spacing", ["exponential", "karras"])
def test_samples_equal_the_stock_pipelines(backend, spacing):
    ours = draw(backend, range(4), 4, {"noise": "brownian", "spacing": spacing})
    backend.pipeline.scheduler.register_to_config(sigma_schedule=spacing)
    assert torch.allclose(ours, stock(backend, CAPTIONS[:4], seeded(range(4))), atol=1e-4)


def test_with_independent_noise_only_the_noise_differs_from_the_stock_pipelines(backend, monkeypatch):
    ours = draw(backend, range(4), 4)
    generators = seeded(range(4))

    def drawn(*arguments, **named):
        return lambda sigma, next_sigma: torch.stack([torch.randn(48, 32, generator=g) for g in generators])

    monkeypatch.setattr(scheduling, "BrownianTreeNoiseSampler", drawn)
    assert torch.allclose(ours, stock(backend, CAPTIONS[:4], generators), atol=1e-4)


def test_without_guidance_samples_equal_the_stock_pipelines(backend):
    settings = SamplerConfig(steps=6, guidance_scale=1, batch_size=1, noise="brownian")
    ours = sample(backend, CAPTIONS[:1], [1.024], seeded([5]), settings, 32)
    assert torch.allclose(ours, stock(backend, CAPTIONS[0], seeded([5]), guidance_scale=1.0), atol=1e-4)


def test_cached_texts_are_encoded_once_each_and_change_no_bit(backend):
    expected = draw(backend, range(6), 4)
    texts = TextCache(backend, batch_size=4, limit=5)
    assert torch.equal(draw(backend, range(6), 4, texts=texts), expected) and texts.encoded == 6
    assert torch.equal(draw(backend, [5, 4, 3], 4, texts=texts), expected[[5, 4, 3]]) and texts.encoded == 6
    assert torch.equal(draw(backend, [0], 4, texts=texts)[0], expected[0]) and texts.encoded == 7


@pytest.mark.parametrize("noise", ["independent", "brownian"])
def test_a_clip_depends_on_neither_neighbours_nor_place_at_one_batch_size(backend, noise):
    together = draw(backend, range(6), 4, {"noise": noise})
    for row in range(6):
        alone = draw(backend, [row], 4, {"noise": noise})[0]
        assert torch.equal(alone, together[row])
        assert torch.equal(draw(backend, [0, 0, row], 4, {"noise": noise})[2], alone)


@pytest.mark.parametrize("sampler", [{}, {"noise": "brownian"}, {"spacing": "karras"}])
def test_a_clip_in_a_batch_equals_the_clip_alone_within_1e_4(backend, sampler):
    together = draw(backend, range(6), 6, sampler)
    for row in range(6):
        assert torch.allclose(draw(backend, [row], 1, sampler)[0], together[row], atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 8])
def test_batch_size_changes_samples_by_less_than_1e_4(backend, batch_size):
    assert torch.allclose(draw(backend, range(6), batch_size), draw(backend, range(6), 3), atol=1e-4)


def test_caption_seed_and_duration_all_matter(backend):
    settings = SamplerConfig(steps=4, batch_size=1)

    def one(caption, seed, duration_s):
        return sample(backend, [caption], [duration_s], [torch.Generator().manual_seed(seed)], settings, 32)

    base = one("siren", 0, 1.0)
    for other in (one("rain", 0, 1.0), one("siren", 1, 1.0), one("siren", 0, 0.4)):
        assert (base - other).abs().max() > 1e-3


def test_short_clips_are_sampled_at_their_own_length(backend):
    settings = SamplerConfig(steps=3, batch_size=2)
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    frames = backend.frames(0.5)
    assert sample(backend, CAPTIONS[:2], [0.3, 0.5], generators, settings, frames).shape == (2, 48, 16)


def test_starting_level_decides_how_much_of_the_given_latents_remains(backend):
    init = torch.randn(2, 48, 32, generator=torch.Generator().manual_seed(9))
    distance = [
        (draw(backend, range(2), 2, start=(init, level)) - init).norm().item() for level in (0.02, 0.4, 0.7, 1.0)
    ]
    assert distance == sorted(distance)
    assert distance[0] < 0.2 * init.norm()


def test_inconsistent_arguments_are_config_errors(backend):
    with pytest.raises(ConfigError, match="in \\(0, 1\\]"):
        draw(backend, range(2), 2, start=(torch.zeros(2, 48, 32), 1.5))
    with pytest.raises(ConfigError, match="generators"):
        sample(backend, ["a", "b"], [1.0, 1.0], [], SamplerConfig(), 32)
