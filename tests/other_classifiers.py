"""Tiny classifiers of transformers other than AST, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    HubertConfig,
    HubertForSequenceClassification,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
)

LABELS = {"id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
WAVE: dict[str, Any] = {
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
    **LABELS,
}
# One normalises over the clip and needs no mask, the other layer by layer, with a mask.
WAV2VEC2 = Wav2Vec2Config(**WAVE, feat_extract_norm="group")
HUBERT = HubertConfig(**WAVE, feat_extract_norm="layer", do_stable_layer_norm=True)
WHISPER = WhisperConfig(
    d_model=16,
    encoder_layers=1,
    encoder_attention_heads=2,
    encoder_ffn_dim=32,
    decoder_layers=1,
    decoder_attention_heads=2,
    decoder_ffn_dim=32,
    num_mel_bins=16,
    max_source_positions=50,
    classifier_proj_size=8,
    **LABELS,
)


def save_other(name: str, folder: Path) -> None:
    """Write `wav2vec2`, `hubert` or `whisper` with three labels."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        if name == "whisper":
            WhisperForAudioClassification(WHISPER).save_pretrained(folder)
            WhisperFeatureExtractor(feature_size=16, chunk_length=1).save_pretrained(folder)
        elif name == "hubert":
            HubertForSequenceClassification(HUBERT).save_pretrained(folder)
            Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
        else:
            Wav2Vec2ForSequenceClassification(WAV2VEC2).save_pretrained(folder)
            Wav2Vec2FeatureExtractor().save_pretrained(folder)
