"""Models with random weights: of the sizes of nano, the tiny preset's models, and of Stable Audio Open's."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck

from common.clap.scorer import ClapScorer
from common.clap.training import build_clap
from common.config.t2a import PretrainT2AConfig, TextEncoderConfig
from common.corpus.vocabulary import Vocabulary, build_tokenizer, build_vocabulary
from common.diffusion.backend import T2ABackend
from common.diffusion.spectral_codec import SpectralCodec
from common.procedural.clips import CLASSES, render_clip
from common.records.text import template_caption
from common.runtime.seeding import numpy_generator
from components.pretrain_t2a.architecture import build_pipeline
from contrib.nano.training import load_settings

TINY_RATE_HZ = 16000
OOBLECK = {"decoder_input_channels": 64, "audio_channels": 2, "sampling_rate": 44100}
"""Stable Audio Open's autoencoder; its other sizes are diffusers' defaults."""

T5_BASE = TextEncoderConfig(start="random", d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12)


def clips(count: int, duration_s: float) -> list[np.ndarray]:
    """Procedural clips (T,) at the tiny rate."""
    labels = (CLASSES[i % len(CLASSES)] for i in range(count))
    return [
        render_clip(label, numpy_generator(0, "bench", i), duration_s, TINY_RATE_HZ).audio
        for i, label in enumerate(labels)
    ]


def vocabulary() -> Vocabulary:
    """Of the template captions."""
    return build_vocabulary([template_caption(label) for label in CLASSES] * 2)


def tiny_model() -> T2ABackend:
    """A text-to-audio model of nano's sizes."""
    config = load_settings()
    codec = SpectralCodec.fit(clips(64, 1.024), config.prepare_corpus.codec)
    tokenizer = build_tokenizer(vocabulary(), config.prepare_corpus.max_tokens)
    return randomised(build_pipeline(config.pretrain_t2a, codec, tokenizer, seed=0))


def tiny_clap() -> ClapScorer:
    """A CLAP of nano's sizes."""
    return build_clap(load_settings().pretrain_clap.architecture, vocabulary(), seed=0)


def full_size_model(config: PretrainT2AConfig | None = None, oobleck: dict[str, int] | None = None) -> T2ABackend:
    """Stable Audio Open's sizes, the official window of 10 s; on the CPU, in fp32."""
    config = config or PretrainT2AConfig(text_encoder=T5_BASE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        vae = AutoencoderOobleck(**(oobleck or OOBLECK))
    return randomised(build_pipeline(config, vae, build_tokenizer(vocabulary(), 128), seed=0))


@torch.no_grad()
def randomised(backend: T2ABackend) -> T2ABackend:
    """Fill weights that a fresh model starts at zero, so that no operation sees only zeros."""
    generator = torch.Generator().manual_seed(0)
    for parameter in backend.transformer.parameters():
        if not parameter.any():
            parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
    return backend
