"""Builds an untrained `StableAudioPipeline` from settings."""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers.models.transformers.stable_audio_transformer import StableAudioDiTModel
from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel
from diffusers.pipelines.stable_audio.pipeline_stable_audio import StableAudioPipeline
from diffusers.schedulers.scheduling_cosine_dpmsolver_multistep import CosineDPMSolverMultistepScheduler
from torch import nn
from transformers.models.t5.configuration_t5 import T5Config
from transformers.models.t5.modeling_t5 import T5EncoderModel

from common.config.t2a import PretrainT2AConfig, TextEncoderConfig, TransformerConfig
from common.diffusion.backend import StableAudio
from common.errors import DataError
from common.seeding import derive_seed

_TEXT_GAIN = 2.0


def latent_channels(vae: Any) -> int:
    """Channels of the autoencoder's latents: Oobleck's `decoder_input_channels` or the codec's `latent_channels`.

    Raises:
        DataError: the autoencoder has neither.
    """
    for name in ("latent_channels", "decoder_input_channels"):
        if name in vae.config:
            return int(vae.config[name])
    raise DataError(f"autoencoder {type(vae).__name__} states no latent channels; expected an AutoencoderOobleck")


def build_transformer(
    config: TransformerConfig, channels: int, window_frames: int, conditioning_dim: int
) -> StableAudioDiTModel:
    """The diffusion transformer, randomly initialised."""
    transformer = StableAudioDiTModel(
        sample_size=window_frames,
        in_channels=channels,
        out_channels=channels,
        num_layers=config.num_layers,
        attention_head_dim=config.attention_head_dim,
        num_attention_heads=config.num_attention_heads,
        num_key_value_attention_heads=config.num_key_value_attention_heads,
        cross_attention_dim=config.cross_attention_dim,
        cross_attention_input_dim=conditioning_dim,
        global_states_input_dim=2 * conditioning_dim,
        time_proj_dim=config.time_proj_dim,
    )
    _initialise(transformer)
    return transformer


@torch.no_grad()
def _initialise(transformer: StableAudioDiTModel) -> None:
    # PyTorch's default shrinks a signal at every layer, and padding tokens (zeros) take most of cross-attention, so the
    # text starts far weaker than the latents and is learned last. Measured on the built-in corpus at 16 latent frames,
    # one seed: accuracy of prompted clips after 600 steps 0.56, with zero residual branches after 660 steps 0.45.
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
    """A random T5 encoder of the configured sizes, without dropout."""
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
) -> StableAudio:
    """A whole untrained pipeline.

    Args:
        config: shapes.
        vae: fitted or pretrained autoencoder; decides rate, channels and hop.
        tokenizer: of the text encoder.
        seed: of the initial weights.
        text_encoder: a pretrained one; None builds a random one.
    """
    window_frames = math.ceil(round(config.transformer.window_s * vae.config.sampling_rate) / vae.hop_length)
    text = config.text_encoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "initial weights"))
        if text_encoder is None:
            text_encoder = build_text_encoder(text, len(tokenizer))
        transformer = build_transformer(config.transformer, latent_channels(vae), window_frames, text.conditioning_dim)
        projection = StableAudioProjectionModel(
            text_encoder_dim=int(text_encoder.config.d_model),
            conditioning_dim=text.conditioning_dim,
            min_value=0,
            max_value=text.max_seconds,
        )
    scheduler = CosineDPMSolverMultistepScheduler(sigma_min=config.sigma_min, sigma_max=config.sigma_max)
    pipeline = StableAudioPipeline(
        vae=vae,
        text_encoder=text_encoder,
        projection_model=projection,
        tokenizer=tokenizer,
        transformer=transformer,
        scheduler=scheduler,
    )
    pipeline.set_progress_bar_config(disable=True)
    return StableAudio(pipeline)
