"""Tiny real pipelines: one around the spectral codec, one around a random Oobleck autoencoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck

from common.config.corpus import SpectralCodecConfig
from common.config.t2a import PretrainT2AConfig, TextEncoderConfig, TransformerConfig
from common.corpus.vocabulary import build_tokenizer, build_vocabulary
from common.diffusion.backend import T2ABackend
from common.diffusion.spectral_codec import SpectralCodec
from common.procedural.clips import CLASSES, render_clip
from common.records.text import template_caption
from common.runtime.seeding import numpy_generator
from components.pretrain_t2a.architecture import build_pipeline

RATE_HZ = 16000
DURATION_S = 1.024


def tiny_config(conditioning_dim: int = 32) -> PretrainT2AConfig:
    return PretrainT2AConfig(
        transformer=TransformerConfig(
            num_layers=2, num_attention_heads=2, attention_head_dim=16, num_key_value_attention_heads=1,
            cross_attention_dim=32, time_proj_dim=16, window_s=DURATION_S,
        ),
        text_encoder=TextEncoderConfig(
            start="random", d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4,
            conditioning_dim=conditioning_dim, max_seconds=8,
        ),
        sigma_min=0.03, sigma_max=80,
    )  # fmt: skip


@pytest.fixture(scope="session")
def clips() -> np.ndarray:
    """48 procedural clips `(48, T)`."""
    return np.stack(
        [
            render_clip(CLASSES[i % len(CLASSES)], numpy_generator(0, "test", i), DURATION_S, RATE_HZ).audio
            for i in range(48)
        ]
    )


@pytest.fixture(scope="session")
def codec(clips: np.ndarray) -> SpectralCodec:
    return SpectralCodec.fit(clips, SpectralCodecConfig())


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer(build_vocabulary([template_caption(label) for label in CLASSES] * 2), 64)


@pytest.fixture
def backend(codec: SpectralCodec, tokenizer) -> T2ABackend:
    return build_pipeline(tiny_config(), codec, tokenizer, seed=0)


@pytest.fixture(scope="session")
def oobleck_backend(tokenizer) -> T2ABackend:
    """The production classes throughout: stereo Oobleck autoencoder, hop 64, 4 latent channels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderOobleck(
            encoder_hidden_size=8, downsampling_ratios=[4, 4, 4], channel_multiples=[1, 2, 2], decoder_channels=4,
            decoder_input_channels=4, audio_channels=2, sampling_rate=8000,
        )  # fmt: skip
    return build_pipeline(tiny_config(), vae, tokenizer, seed=0)
