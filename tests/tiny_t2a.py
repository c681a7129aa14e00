"""A random text-to-audio model of real classes, and a small gold set, for tests of synthesis and alignment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.config.codec import SpectralCodecConfig
from common.config.t2a import PretrainT2AConfig
from common.corpus.vocabulary import build_vocabulary
from common.diffusion.backend import T2ABackend
from common.diffusion.spectral_codec import SpectralCodec
from common.diffusion.text import build_tokenizer
from common.records.audio_folder import write_audio_folder
from common.records.clips import GoldClip
from components.pretrain_t2a.architecture import build_pipeline

RATE = 16000
LABELS = ("bus", "dog_bark", "jazz")


def sound(label: str, number: int, duration_s: float = 0.5) -> np.ndarray:
    """A noisy tone whose pitch belongs to the label, (T,)."""
    rng = np.random.default_rng([LABELS.index(label), number])
    time = np.arange(round(duration_s * RATE)) / RATE
    tone = np.sin(2 * np.pi * 300 * 2 ** LABELS.index(label) * time) * (0.2 + 0.1 * rng.random())
    noisy: np.ndarray = (tone + 0.01 * rng.standard_normal(len(time))).astype(np.float32)
    return noisy


def build_model(seed: int = 0, backend: str = "stable_audio", vae: Any = None) -> T2ABackend:
    """Random weights of working size (a fresh model's output layers are zero), 1 s window; default: spectral codec."""
    if vae is None:
        codec_config = SpectralCodecConfig(latent_channels=8, griffin_lim_steps=2)
        vae = SpectralCodec.fit([sound(label, i) for label in LABELS for i in range(4)], codec_config)
    config = PretrainT2AConfig.model_validate(
        {
            "backend": backend,
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
    )
    tokenizer = build_tokenizer(build_vocabulary(["sound of a dog bark"] * 3), 64)
    model = build_pipeline(config, vae, tokenizer, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.transformer.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def write_gold(
    folder: Path, per_label: int = 2, seeds: tuple[int, ...] = (0, 1), duration_s: float = 0.5, val_per_label: int = 0
) -> None:
    """A gold set whose replicates share their training and validation clips."""
    records, audio = [], {}
    for label_id, label in enumerate(LABELS):
        for number in range(per_label + val_per_label):
            clip_id = f"{label}-{number}"
            audio[clip_id] = sound(label, number, duration_s + 0.01 * number)
            records.append(
                GoldClip(
                    file_name=f"{clip_id}.flac",
                    clip_id=clip_id,
                    label=label,
                    label_id=label_id,
                    source=f"{clip_id}.wav",
                    duration_s=len(audio[clip_id]) / RATE,
                    sample_rate_hz=RATE,
                )
            )
    folder.mkdir(parents=True)
    write_audio_folder(folder, records, audio, RATE)
    parts: dict[str, list[str]] = {"train": [], "val": []}
    for number, record in enumerate(records):
        parts["train" if number % (per_label + val_per_label) < per_label else "val"].append(record.clip_id)
    splits = {"replicates": {str(s): parts for s in seeds}, "oracle": parts["train"], "shared_gold": True}
    for name, value in {"labels": list(LABELS), "splits": splits, "health": {}, "dataset": {"name": "tones"}}.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
