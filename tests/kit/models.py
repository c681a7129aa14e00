"""Tiny models of the real classes, with random weights.

Each function imports what it needs: an image holds only the libraries of its own stage.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.config.clap import ClapArchitecture
from common.config.classifier import ASTArchitecture
from common.corpus.vocabulary import build_tokenizer, build_vocabulary
from common.records.text import template_caption
from tests.kit.sounds import CLAP_RATE, CLAP_SOUNDS, TONES, clap_sound, tone

if TYPE_CHECKING:
    from transformers import Wav2Vec2Config

    from common.diffusion.backend import T2ABackend

AST_ARCHITECTURE = ASTArchitecture(
    hidden_size=16,
    layers=1,
    heads=2,
    intermediate_size=32,
    patch_size=8,
    frequency_stride=8,
    time_stride=8,
    max_length=48,
    num_mel_bins=32,
)
"""A classifier that trains in seconds."""

CLAP_ARCHITECTURE = ClapArchitecture(
    sample_rate_hz=CLAP_RATE,
    window_s=1,
    padding="repeatpad",
    fft_size=256,
    hop_length=128,
    mel_bins=32,
    frequency_min_hz=50,
    frequency_max_hz=4000,
    spec_size=64,
    patch_size=8,
    patch_width=16,
    depths=(1, 1),
    audio_heads=(1, 2),
    attention_window=4,
    text_width=32,
    text_layers=1,
    text_heads=2,
    text_ff_width=64,
    max_tokens=64,
    projection_dim=32,
    dropout=0.0,
)
"""A CLAP that trains in a second."""

T2A_SHAPES: dict[str, Any] = {
    "transformer": {
        "num_layers": 1,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_key_value_attention_heads": 1,
        "cross_attention_dim": 16,
        "time_proj_dim": 16,
        "window_s": 1.0,
    },
    "text_encoder": {
        "start": "random",
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 16,
        "num_layers": 1,
        "num_heads": 2,
        "conditioning_dim": 16,
        "max_seconds": 8.0,
    },
    "sigma_min": 0.03,
    "sigma_max": 80.0,
}
PRETRAIN_T2A: dict[str, Any] = {
    **T2A_SHAPES,
    "transformer": {**T2A_SHAPES["transformer"], "window_s": 1.024},
    "optim": {"steps": 10.0, "batch_size": 8.0, "learning_rate": 1e-3, "record_every": 5},
    "monitor": {"clips": 6, "prompt_count": 2, "sampler": {"steps": 2, "batch_size": 4, "guidance_scale": 1}},
}
"""Settings of a pretraining on `spectral_corpus`."""

TINY_WHISPER = {
    "d_model": 16,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 32,
    "num_mel_bins": 16,
    "max_source_positions": 50,
}
"""Sizes of a Whisper that hears a second at a time."""
_LABELS = {"id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
_ON_WAVEFORMS: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8, 8),
    "conv_kernel": (10, 8),
    "conv_stride": (10, 8),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 8,
    **_LABELS,
}


def build_t2a(seed: int = 0, backend: str = "stable_audio", vae: Any = None) -> T2ABackend:
    """A text-to-audio model with a window of 1 s; where no `vae` is given, around a spectral codec fitted to tones."""
    from common.config.corpus import SpectralCodecConfig
    from common.config.t2a import PretrainT2AConfig
    from common.diffusion.spectral_codec import SpectralCodec
    from components.pretrain_t2a.architecture import build_pipeline

    if vae is None:
        codec_config = SpectralCodecConfig(n_mels=32, latent_channels=8, griffin_lim_steps=2)
        vae = SpectralCodec.fit([tone(label, i) for label in TONES for i in range(4)], codec_config)
    config = PretrainT2AConfig.model_validate({**T2A_SHAPES, "backend": backend})
    tokenizer = build_tokenizer(build_vocabulary(["sound of a dog bark"] * 3), 64)
    model = build_pipeline(config, vae, tokenizer, seed)
    fill_zero_weights(model.transformer, seed)
    return model


def fill_zero_weights(transformer: Any, seed: int = 0) -> None:
    """Fill the output layers of a fresh model, which are zero."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in transformer.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


def write_generators(root: Path) -> None:
    """The unaligned model `t2a` and, for replicates 0 and 1, an `aligned/<replicate>/dpo`; each has its own weights."""
    build_t2a(0).save(root / "t2a")
    for replicate in (0, 1):
        build_t2a(replicate + 1).save(root / "aligned" / str(replicate) / "dpo")


def write_clap(folder: Path, steps: int = 0, rate: int = CLAP_RATE) -> Path:
    """A CLAP as it begins, or trained for some steps on `clap_sound`; it hears clips at `rate`."""
    from common.clap.training import build_clap, set_input_statistics, train_contrastive, window_features
    from common.config.base import OptimConfig

    captions = {label: template_caption(label) for label in CLAP_SOUNDS}
    frames = {"fft_size": 256 * rate // CLAP_RATE, "hop_length": 128 * rate // CLAP_RATE}
    architecture = CLAP_ARCHITECTURE.model_copy(update={"sample_rate_hz": rate, **frames})
    scorer = build_clap(architecture, build_vocabulary([*captions.values()] * 3), seed=1)
    labels = [CLAP_SOUNDS[index % 3] for index in range(24)]
    clips = [clap_sound(label, np.random.default_rng(index)) for index, label in enumerate(labels)]
    features, _ = window_features(scorer, clips, CLAP_RATE)
    set_input_statistics(scorer.model, features)
    if steps:
        optim = OptimConfig(steps=steps, batch_size=12, learning_rate=3e-3)
        told = [([captions[label]], label) for label in labels]
        train_contrastive(scorer, len(told), features.__getitem__, told.__getitem__, optim, seed=0, name="clap")
    scorer.save(folder)
    return folder


def wav2vec2_config() -> Wav2Vec2Config:
    """The shape of the classifier `wav2vec2`: it normalises over the clip and needs no mask."""
    from transformers import Wav2Vec2Config

    return Wav2Vec2Config(**_ON_WAVEFORMS, feat_extract_norm="group")


def write_other_classifier(name: str, folder: Path) -> None:
    """A classifier of transformers other than AST, with three labels: `wav2vec2`, `hubert` or `whisper`."""
    import torch
    from transformers import (
        HubertConfig,
        HubertForSequenceClassification,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForSequenceClassification,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForAudioClassification,
    )

    with torch.random.fork_rng():
        torch.manual_seed(4)
        if name == "whisper":
            config = WhisperConfig(**TINY_WHISPER, classifier_proj_size=8, **_LABELS)
            WhisperForAudioClassification(config).save_pretrained(folder)
            WhisperFeatureExtractor(feature_size=16, chunk_length=1).save_pretrained(folder)
        elif name == "hubert":
            # It normalises layer by layer, with a mask.
            config = HubertConfig(**_ON_WAVEFORMS, feat_extract_norm="layer", do_stable_layer_norm=True)
            HubertForSequenceClassification(config).save_pretrained(folder)
            Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
        else:
            Wav2Vec2ForSequenceClassification(wav2vec2_config()).save_pretrained(folder)
            Wav2Vec2FeatureExtractor().save_pretrained(folder)
