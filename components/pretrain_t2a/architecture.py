"""Untrained text-to-audio model, built from the settings: transformer, text encoder, projection, whole pipeline."""

import math
from typing import Any

import torch
from torch import nn
from transformers.models.t5.configuration_t5 import T5Config
from transformers.models.t5.modeling_t5 import T5EncoderModel

from common.config.t2a import PretrainT2AConfig, TextEncoderConfig
from common.diffusion.backend import T2ABackend, named_backend
from common.errors import DataError
from common.runtime.seeding import derive_seed

_TEXT_GAIN = 2.0


def latent_channels(vae: Any) -> int:
    """Latent channels of the autoencoder: the codec's `latent_channels` or Oobleck's `decoder_input_channels`.

    Raises DataError: the autoencoder's config states neither.
    """
    for name in ("latent_channels", "decoder_input_channels"):
        if name in vae.config:
            return int(vae.config[name])
    raise DataError(f"autoencoder {type(vae).__name__} states no latent channels; expected an AutoencoderOobleck")


def build_transformer(config: PretrainT2AConfig, channels: int, window_frames: int) -> Any:
    """Build a randomly initialised diffusion transformer."""
    backend = named_backend(config.backend)
    transformer = backend.build_transformer(
        config.transformer, channels, window_frames, config.text_encoder.conditioning_dim
    )
    _initialise(transformer)
    return transformer


@torch.no_grad()
def _initialise(transformer: Any) -> None:
    # PyTorch's default initialisation shrinks a signal at every layer, and padding tokens (zeros) take most of
    # cross-attention. So the text signal starts far weaker than the latents and is learned last. Measured on the
    # built-in corpus at 16 latent frames, one seed: accuracy of prompted clips is 0.56 after 600 steps; with zero
    # residual branches it is 0.45 after 660 steps.
    layers = len(transformer.transformer_blocks)
    for module in transformer.modules():
        if isinstance(module, nn.Linear):
            _normal(module, 1.0)
    _normal(transformer.cross_attention_proj[-1], _TEXT_GAIN)
    for block in transformer.transformer_blocks:
        for branch in (block.attn1.to_out[0], block.attn2.to_out[0], block.ff.net[-1]):
            _normal(branch, (3 * layers) ** -0.5)
    for conv in (transformer.preprocess_conv, transformer.postprocess_conv):
        nn.init.zeros_(conv.weight)


def _normal(layer: nn.Linear, gain: float) -> None:
    nn.init.normal_(layer.weight, std=gain * layer.in_features**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def build_text_encoder(config: TextEncoderConfig, vocabulary_size: int) -> T5EncoderModel:
    """Build a randomly initialised T5 encoder of the configured sizes, without dropout."""
    return T5EncoderModel(
        T5Config(
            vocab_size=vocabulary_size,
            d_model=config.d_model,
            d_kv=config.d_kv,
            d_ff=config.d_ff,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            is_encoder_decoder=False,
            use_cache=False,
            pad_token_id=0,
            eos_token_id=1,
        )
    )


def build_pipeline(
    config: PretrainT2AConfig, vae: Any, tokenizer: Any, seed: int, text_encoder: T5EncoderModel | None = None
) -> T2ABackend:
    """Build a whole untrained pipeline; without a pretrained text encoder a random one."""
    backend, text = named_backend(config.backend), config.text_encoder
    window_frames = math.ceil(round(config.transformer.window_s * vae.config.sampling_rate) / vae.hop_length)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "initial weights"))
        if text_encoder is None:
            text_encoder = build_text_encoder(text, len(tokenizer))
        transformer = build_transformer(config, latent_channels(vae), window_frames)
        projection = backend.build_projection(int(text_encoder.config.d_model), text.conditioning_dim, text.max_seconds)
    pipeline = backend.pipeline_class(
        vae=vae,
        text_encoder=text_encoder,
        projection_model=projection,
        tokenizer=tokenizer,
        transformer=transformer,
        scheduler=backend.build_scheduler(config),
    )
    return backend(pipeline)
