from __future__ import annotations

import pytest
import torch

from common.config.t2a import SamplerConfig
from common.diffusion.sampling import sample
from common.errors import ConfigError

CAPTIONS = ["sound of a bell", "a loud dog bark", "siren", "sound of a drum", "rain", "sound of a whistle"]


def draw(backend, rows, batch_size, **changes):
    settings = SamplerConfig(steps=6, guidance_scale=2.5, batch_size=batch_size)
    generators = [torch.Generator().manual_seed(1000 + i) for i in rows]
    return sample(backend, [CAPTIONS[i] for i in rows], 1.024, generators, settings, **changes)


def test_samples_equal_the_stock_pipelines(backend):
    ours = draw(backend, range(4), 4)
    stock = backend.pipeline(
        CAPTIONS[:4], audio_end_in_s=1.024, num_inference_steps=6, guidance_scale=2.5, output_type="latent",
        generator=[torch.Generator().manual_seed(1000 + i) for i in range(4)],
    ).audios  # fmt: skip
    assert torch.allclose(ours, stock, atol=1e-4)


def test_without_guidance_samples_equal_the_stock_pipelines(backend):
    generators = [torch.Generator().manual_seed(5)]
    ours = sample(backend, CAPTIONS[:1], 1.024, generators, SamplerConfig(steps=6, guidance_scale=1, batch_size=1))
    stock = backend.pipeline(
        CAPTIONS[0], audio_end_in_s=1.024, num_inference_steps=6, guidance_scale=1.0, output_type="latent",
        generator=[torch.Generator().manual_seed(5)],
    ).audios  # fmt: skip
    assert torch.allclose(ours, stock, atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 8])
def test_batch_size_changes_samples_by_less_than_1e_4(backend, batch_size):
    assert torch.allclose(draw(backend, range(6), batch_size), draw(backend, range(6), 3), atol=1e-4)


def test_a_sample_is_bit_equal_whatever_shares_its_batch(backend):
    together = draw(backend, range(6), 4)
    assert torch.equal(draw(backend, [5, 4, 3, 2, 1, 0], 4).flip(0), together)
    assert torch.equal(draw(backend, [3], 4)[0], together[3])


def test_caption_seed_and_duration_all_matter(backend):
    settings = SamplerConfig(steps=4, batch_size=1)

    def one(caption, seed, duration_s):
        return sample(backend, [caption], duration_s, [torch.Generator().manual_seed(seed)], settings, frames=32)

    base = one("siren", 0, 1.0)
    for other in (one("rain", 0, 1.0), one("siren", 1, 1.0), one("siren", 0, 0.4)):
        assert (base - other).abs().max() > 1e-3


def test_short_clips_are_sampled_at_their_own_length(backend):
    settings = SamplerConfig(steps=3, batch_size=2)
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    assert sample(backend, CAPTIONS[:2], [0.3, 0.5], generators, settings).shape == (2, 48, 16)
    assert sample(backend, [], 0.3, [], settings, frames=8).shape == (0, 48, 8)


def test_starting_level_decides_how_much_of_the_given_latents_remains(backend):
    init = torch.randn(2, 48, 32, generator=torch.Generator().manual_seed(9))
    distance = [
        (draw(backend, range(2), 2, init_latents=init, init_level=level) - init).norm().item()
        for level in (0.02, 0.4, 0.7, 1.0)
    ]
    assert distance == sorted(distance)
    assert distance[0] < 0.2 * init.norm()


@pytest.mark.parametrize("wrong", [{"init_level": 0.5}, {"init_latents": torch.zeros(2, 48, 32)},
                                   {"init_latents": torch.zeros(2, 48, 32), "init_level": 1.5}])  # fmt: skip
def test_inconsistent_arguments_are_config_errors(backend, wrong):
    with pytest.raises(ConfigError):
        draw(backend, range(2), 2, **wrong)
    with pytest.raises(ConfigError, match="generators"):
        sample(backend, ["a", "b"], 1.0, [], SamplerConfig())
