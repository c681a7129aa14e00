"""Front ends: conversion of waveforms to the input of a classifier's first layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers.models.audio_spectrogram_transformer.feature_extraction_audio_spectrogram_transformer import (
    ASTFeatureExtractor,
)

from common.classifier.features import LogMel, checked
from common.errors import ConfigError

WINDOW_S = 10.0
"""Window in seconds of a waveform classifier whose config.json states no `window_s`."""
SUPPORTED = ("ASTFeatureExtractor", "Wav2Vec2FeatureExtractor", "WhisperFeatureExtractor")


class FrontEnd(Protocol):
    """Converts waveforms to frames, once per clip, and windows of frames to model inputs.

    Equal front ends give equal frames.

    Attributes:
        spectral: whether a frame is a spectrum, so that SpecAugment can mask it.
        peak: largest sample to which each clip is scaled; None = clips are heard as they are.
    """

    sample_rate_hz: int
    max_length: int
    pad_value: float
    spectral: bool
    frame_length: int
    hop_length: int
    peak: float | None

    def __call__(self, clips: Sequence[np.ndarray], peak: float | None = None) -> list[Tensor]:
        """Frames (frames, bins) float32 of each whole clip, mono (T,) at `sample_rate_hz`.

        With `peak`, `clips` are parts of a clip whose largest sample this is.
        """

    def inputs(self, windows: Tensor) -> dict[str, Tensor]:
        """Keyword arguments of the model for windows (B, max_length, bins)."""

    def __hash__(self) -> int:
        """Hash by settings, for use as a cache key."""


class Waveforms:
    """Front end of models on waveforms (wav2vec 2.0, HuBERT, WavLM …) and on spectrograms of 30 s (Whisper).

    A frame is a sample; the model's own extractor processes each window, cut at the clip's end, when the
    model is called, so that normalisation, padding and attention mask are those of transformers.

    Args:
        window_s: window of the model in seconds; Whisper's extractor states its own.
    """

    pad_value = float("nan")  # marks padding, and never reaches a model
    spectral = False
    frame_length = hop_length = 1
    peak: float | None = None

    def __init__(self, extractor: Any, window_s: float) -> None:
        self.sample_rate_hz = int(extractor.sampling_rate)
        self.max_length = int(getattr(extractor, "n_samples", 0)) or round(window_s * self.sample_rate_hz)
        self._extractor = extractor

    def __call__(self, clips: Sequence[np.ndarray], peak: float | None = None) -> list[Tensor]:
        """Samples as frames, (T, 1) of each clip. Raises DataError: a clip is not one-dimensional or not finite."""
        return [torch.from_numpy(checked(clip, index))[:, None] for index, clip in enumerate(clips)]

    def inputs(self, windows: Tensor) -> dict[str, Tensor]:
        """Output of the extractor for windows (B, max_length, 1), NaN after a clip's end."""
        waveforms = [window[~window.isnan()].numpy() for window in windows[:, :, 0].cpu()]
        made = self._extractor(
            waveforms,
            sampling_rate=self.sample_rate_hz,
            padding="max_length",
            max_length=self.max_length,
            truncation=True,
            return_tensors="pt",
        )
        return dict(made)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Waveforms) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[int, int]:
        return self.sample_rate_hz, self.max_length


def front_end_of(extractor: Any, window_s: float) -> FrontEnd:
    """Front end for a checkpoint's feature extractor.

    Raises ConfigError: the extractor is of a kind that is not supported.
    """
    if isinstance(extractor, ASTFeatureExtractor):
        return LogMel(extractor)
    found = type(extractor).__name__
    if found not in SUPPORTED:
        raise ConfigError(
            f"the checkpoint's feature extractor is {found}; expected one of {', '.join(SUPPORTED)}: name a checkpoint "
            "of the Audio Spectrogram Transformer, wav2vec 2.0, HuBERT, WavLM, Data2Vec, SEW, UniSpeech or Whisper in "
            "pretrain_classifier.checkpoint"
        )
    return Waveforms(extractor, window_s)
