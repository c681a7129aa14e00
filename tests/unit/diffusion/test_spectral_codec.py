from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from common.audio.mel import mel_filters
from common.config.corpus import SpectralCodecConfig
from common.diffusion.spectral_codec import SpectralCodec, load_autoencoder
from common.errors import DataError


def test_latents_of_the_fitted_clips_have_mean_zero_and_mean_square_one(codec, clips):
    z = codec.encode(torch.from_numpy(clips)[:, None]).latent_dist.mode()
    assert z.shape == (48, 48, 32)
    assert z.mean(dim=(0, 2)).abs().max() < 1e-2
    assert z.square().mean().item() == pytest.approx(1, abs=1e-2)


def test_latent_channels_are_uncorrelated_with_the_configured_std_profile(clips):
    z = {}
    for exponent in (0.0, 0.6, 1.0):
        codec = SpectralCodec.fit(clips, SpectralCodecConfig(std_exponent=exponent))
        z[exponent] = codec.encode(torch.from_numpy(clips)[:, None]).latent_dist.mode().transpose(0, 1).flatten(1)
    std = {exponent: value.std(1) for exponent, value in z.items()}
    assert torch.allclose(std[0.0], torch.ones(48), atol=2e-2)
    correlation = torch.corrcoef(z[0.6]) - torch.eye(48)
    assert correlation.abs().max() < 2e-2
    profile = std[1.0] ** 0.6
    assert torch.allclose(std[0.6] / std[0.6][0], profile / profile[0], rtol=2e-2)


def test_round_trip_keeps_the_log_mel_spectrum_within_five_decibels(codec, clips):
    audio = torch.from_numpy(clips[:14])[:, None]
    decoded = codec.decode(codec.encode(audio).latent_dist.sample()).sample
    difference_db = (codec.log_mel(decoded[:, 0]) - codec.log_mel(audio[:, 0])) * 20 / np.log(10)
    assert decoded.shape == audio.shape
    assert difference_db.square().mean().sqrt() < 5


def test_without_truncation_encoding_is_inverted_exactly_up_to_the_phase(clips):
    config = SpectralCodecConfig(latent_channels=256)
    codec = SpectralCodec.fit(clips, config)
    patches = codec._patches(torch.from_numpy(clips[:2]))
    z = codec.encode(torch.from_numpy(clips[:2])[:, None]).latent_dist.mode()
    assert torch.allclose(codec.synthesis @ z + codec.center[:, None], patches, atol=2e-3)


def test_a_round_trip_keeps_how_much_the_bands_fluctuate(codec, clips):
    audio = torch.from_numpy(clips[:14])[:, None]
    latents = codec.encode(audio).latent_dist.mode()
    codec_without = copy.deepcopy(codec)
    codec_without.texture[:] = 0
    codec_without.texture[:, -1] = -99
    heard = codec.log_mel(audio[:, 0]).diff().std().item()
    kept, lost = (
        codec.log_mel(each.decode(latents).sample[:, 0]).diff().std().item() for each in (codec, codec_without)
    )
    assert kept == pytest.approx(heard, rel=0.1)
    assert lost < kept


def test_latents_hear_nothing_of_the_texture_that_decoding_adds(codec, clips):
    latents = codec.encode(torch.from_numpy(clips[:1])[:, None]).latent_dist.mode()[0]
    texture = codec._texture(latents)
    assert texture.std() > 0.05
    assert (codec.analysis @ texture).abs().max() < 1e-3


def test_texture_hangs_together_over_frames_as_levels_of_windows_that_overlap_do(codec):
    config = codec.config

    def correlation(texture: torch.Tensor) -> float:
        frames = texture.reshape(config.frames_per_latent, config.n_mels, -1)
        return float((frames[1:] * frames[:-1]).mean() / frames.square().mean())

    independent = torch.randn(len(codec.center), 40, generator=torch.Generator().manual_seed(0))
    assert correlation(codec._texture(torch.zeros(config.latent_channels, 40))) > 0.05
    assert correlation(codec._left_out(independent)) < 0


def test_the_quietest_bands_of_a_recording_are_kept(codec, clips):
    quiet = torch.from_numpy(clips[:4])[:, None] * 0.02
    decoded = codec.decode(codec.encode(quiet).latent_dist.mode()).sample
    assert codec.log_mel(decoded[:, 0]).mean().item() == pytest.approx(
        codec.log_mel(quiet[:, 0]).mean().item(), abs=0.2
    )


def test_decoding_is_deterministic_and_independent_of_the_batch(codec, clips):
    z = codec.encode(torch.from_numpy(clips[:6])[:, None]).latent_dist.mode()
    together = codec.decode(z).sample
    assert torch.equal(together, codec.decode(z).sample)
    assert torch.equal(together[4:5], codec.decode(z[4:5]).sample)


@pytest.mark.parametrize("scale", [3.0, 30.0])
def test_overdriven_latents_decode_to_finite_audio_below_the_peak_limit(codec, clips, scale):
    z = codec.encode(torch.from_numpy(clips[:4])[:, None]).latent_dist.mode()
    decoded = codec.decode(z * scale).sample
    assert torch.isfinite(decoded).all()
    assert decoded.abs().max() <= 0.98 + 1e-5


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (511, 1), (512, 1), (513, 2), (16000, 32)])
def test_length_is_rounded_up_to_whole_latent_frames(codec, samples, frames):
    z = codec.encode(torch.zeros(1, 1, samples)).latent_dist.mode()
    assert z.shape[-1] == frames
    assert codec.decode(z).sample.shape[-1] == frames * codec.hop_length


def test_saved_and_loaded_codec_decodes_bit_for_bit(codec, clips, tmp_path):
    codec.save_pretrained(tmp_path / "vae")
    loaded = load_autoencoder(tmp_path / "vae")
    z = codec.encode(torch.from_numpy(clips[:2])[:, None]).latent_dist.mode()
    assert loaded.config.sampling_rate == loaded.sampling_rate == 16000
    assert torch.equal(loaded.decode(z).sample, codec.decode(z).sample)


def test_fitting_twice_gives_the_same_codec(codec, clips):
    again = SpectralCodec.fit(iter(list(clips)), SpectralCodecConfig())
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in codec.state_dict().items())


def test_too_few_clips_and_stereo_are_data_errors(codec, clips):
    with pytest.raises(DataError, match="more clips"):
        SpectralCodec.fit(clips[:2], SpectralCodecConfig())
    with pytest.raises(DataError, match="mono"):
        codec.encode(torch.zeros(1, 2, 512))


@pytest.mark.parametrize(("n_mels", "rate"), [(64, 16000), (128, 44100), (80, 8000)])
def test_no_mel_filter_is_empty(n_mels, rate):
    filters = mel_filters(n_mels, 1024, rate)
    assert (filters.max(1) > 0.2).all()
    assert filters.min() >= 0


def test_a_full_scale_sine_reads_zero_decibels(codec):
    t = torch.arange(16384) / 16000
    log_mel = codec.log_mel(torch.sin(2 * torch.pi * 1000 * t)[None])
    assert log_mel[0, :, 8:-8].max(0).values.mean().item() == pytest.approx(0, abs=0.5)
