"""Pretrained encoders as front ends: CLAP, Whisper, PE-AV; frozen, and deaf to the level of a clip."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    PeAudioConfig,
    PeAudioFeatureExtractor,
    PeAudioModel,
    PeAudioVideoConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)
from transformers.utils.logging import disable_progress_bar

from common.audio.signal import fixed_windows, levelled
from common.classifier.features import checked
from common.errors import DataError
from common.learners.architectures import ARCHITECTURES, architecture
from common.learners.front_ends import Clap, Features, FrontEnd
from common.runtime.devices import device


class _Windowed(ABC):
    """Mean of the features of a clip's windows, each computed alone, so that no other clip changes them.

    Args:
        folder: of the encoder, written by `save_pretrained`.

    Raises DataError: it holds no such encoder, or not all of it.
    """

    sample_rate_hz: int
    window_length: int

    @torch.inference_mode()
    def __call__(self, waveforms: Sequence[NDArray[np.float32]]) -> list[Features]:
        """Features (D,) of mono waveforms (T,)."""
        found = []
        for index, waveform in enumerate(waveforms):
            clip = levelled(checked(waveform, index))
            windows = [clip] if clip.size <= self.window_length else fixed_windows(clip, self.window_length)
            found.append(torch.stack([self._features(window) for window in windows]).mean(dim=0).cpu().numpy())
        return found

    @abstractmethod
    def _features(self, window: NDArray[np.float32]) -> Tensor:
        """(D,) of a window of at most `window_length` samples."""


class Whisper(_Windowed):
    """Whisper's encoder: its output, averaged over the frames that hold sound."""

    def __init__(self, folder: Path) -> None:
        model, extractor = _loaded(folder, WhisperModel, WhisperFeatureExtractor, "encoder.")
        self.encoder, self.extractor = model.encoder.to(device()), extractor
        self.sample_rate_hz, self.window_length = int(extractor.sampling_rate), int(extractor.n_samples)
        self.frame_length = int(extractor.hop_length * self.encoder.conv1.stride[0] * self.encoder.conv2.stride[0])

    def _features(self, window: NDArray[np.float32]) -> Tensor:
        made = self.extractor(window, sampling_rate=self.sample_rate_hz, return_tensors="pt").input_features
        frames: Tensor = self.encoder(made.to(device())).last_hidden_state[0]
        return frames[: -(-window.size // self.frame_length)].mean(dim=0)


class PeAudio(_Windowed):
    """PE-AV's audio tower: its pooled embedding, in the space that it shares with text."""

    WINDOW_S = 30

    def __init__(self, folder: Path) -> None:
        config = None
        if architecture(folder) == "pe_audio_video":
            config = PeAudioVideoConfig.from_pretrained(folder, local_files_only=True).audio_config
        model, self.extractor = _loaded(folder, PeAudioModel, PeAudioFeatureExtractor, "audio_", config)
        self.encoder, self.head = model.audio_encoder.to(device()), model.audio_head.to(device())
        self.sample_rate_hz = int(self.extractor.sampling_rate)
        self.window_length = self.WINDOW_S * self.sample_rate_hz

    def _features(self, window: NDArray[np.float32]) -> Tensor:
        made = self.extractor(window, sampling_rate=self.sample_rate_hz, padding=False, return_tensors="pt")
        pooled = self.encoder(input_values=made.input_values.to(device()).reshape(1, 1, -1)).pooler_output
        embedding: Tensor = self.head(pooled)[0]
        return embedding


def _loaded(folder: Path, model: Any, extractor: Any, needed: str, config: PeAudioConfig | None = None) -> Any:
    """Model and extractor; weights whose names begin with `needed` must be there."""
    disable_progress_bar()
    try:
        made, told = model.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
        heard = extractor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        title = ARCHITECTURES[architecture(folder)]
        raise DataError(f"cannot load the encoder at {folder} ({title}): {error}; copy the folder again") from error
    if lacking := sorted(name for name in told["missing_keys"] if name.startswith(needed)):
        raise DataError(f"the encoder at {folder} lacks weights: {', '.join(lacking[:5])}; copy the folder again")
    return made.eval(), heard


OPENERS: dict[str, Callable[[Path], FrontEnd]] = {
    "clap": Clap,
    "pe_audio": PeAudio,
    "pe_audio_video": PeAudio,
    "whisper": Whisper,
}
"""Front end of each of the `ARCHITECTURES`."""


def open_encoder(folder: Path) -> FrontEnd:
    """The encoder of a folder. Raises DataError: it holds none that is supported, or not all of it."""
    return OPENERS[architecture(folder)](folder)
