"""Tiny encoders of the real classes, with random weights, in the layout of the published ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.kit.models import TINY_WHISPER, write_clap
from tests.kit.sounds import CLASS_LABELS, class_sound

if TYPE_CHECKING:
    from common.learners.model import LearnerModel

ENCODERS = ("clap", "pe_audio", "pe_audio_video", "whisper")
RATE = 8000
"""Rate of all of them but Whisper, which hears 16 kHz."""


def write_encoder(kind: str, folder: Path, seed: int = 0) -> Path:
    """An encoder of one of the kinds in `ENCODERS`; Whisper's windows last a second."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if kind == "clap":
            return write_clap(folder, rate=RATE)
        if kind == "whisper":
            _write_whisper(folder)
        else:
            _write_pe_audio(folder, inside_video=kind == "pe_audio_video")
    return folder


def encoder_probe(encoder: Path, learner: str = "probe_own") -> LearnerModel:
    """A logistic regression on the features of an encoder, fitted to `class_sound`."""
    from common.audio.signal import resample
    from common.learners.front_ends import ENCODER, open_encoder
    from common.learners.linear import fit_logistic
    from common.learners.model import LearnerModel, LinearHead

    hears = open_encoder(encoder)
    clips = [resample(class_sound(i % 3, np.random.default_rng(i)), 16000, hears.sample_rate_hz) for i in range(12)]
    fitted = fit_logistic(np.stack(hears(clips)), np.eye(3)[np.arange(12) % 3], np.ones(12), 1.0, False)
    return LearnerModel(learner, ENCODER, LinearHead.of(fitted), tuple(CLASS_LABELS), False, 1.5, hears)


def _write_whisper(folder: Path) -> None:
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=60, **TINY_WHISPER, **{f"{name}_token_id": 1 for name in ("pad", "bos", "eos", "decoder_start")}
    )
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=16, chunk_length=1).save_pretrained(folder)


def _write_pe_audio(folder: Path, inside_video: bool) -> None:
    """PE-AV's audio model alone, or the part of the published models for audio and video that it is taken from."""
    from safetensors.torch import load_file, save_file
    from transformers import PeAudioConfig, PeAudioFeatureExtractor, PeAudioModel

    small = {"intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokens = {f"{name}_token_id": 1 for name in ("pad", "bos", "eos", "cls", "sep")}
    codec = {"model_type": "dac", "downsampling_ratios": [2, 4], "encoder_hidden_size": 8, "codebook_dim": 8}
    config = PeAudioConfig(
        text_config={"model_type": "modernbert", "hidden_size": 24, "vocab_size": 50, **tokens, **small},
        audio_config={"hidden_size": 16, "head_dim": 8, "dac_config": codec, **small},
    )
    PeAudioModel(config).save_pretrained(folder)
    PeAudioFeatureExtractor(sampling_rate=RATE, hop_length=8).save_pretrained(folder)
    if inside_video:
        weights = folder / "model.safetensors"
        parts = {name: value for name, value in load_file(weights).items() if name.startswith("audio_")}
        save_file({f"audio_model.{name}": value for name, value in parts.items()}, weights, {"format": "pt"})
        told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        inner = {"model_type": "pe_audio_video_encoder", "audio_config": told.pop("audio_config")}
        told |= {"model_type": "pe_audio_video", "architectures": ["PeAudioVideoModel"], "audio_video_config": inner}
        (folder / "config.json").write_text(json.dumps(told), encoding="utf-8")
