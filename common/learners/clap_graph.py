"""The audio tower of a CLAP from the waveform on, as a module of operations that ONNX has."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from common.audio.signal import LEVEL_DBFS, MAX_GAIN_DB
from common.clap.scorer import ClapScorer
from common.classifier.features import FRAME_LENGTH
from common.classifier.graph import places, window_starts


class ClapEmbedding(nn.Module):
    """Embedding (D,) of norm 1 of one mono waveform (T,), as the front end `Clap` gives it.

    Args:
        scorer: its audio tower is copied.

    Attributes:
        sample_rate_hz: rate of the waveform.
        shortest: samples of the shortest waveform.
        window_s: seconds of a window.
    """

    _place: Tensor

    def __init__(self, scorer: ClapScorer) -> None:
        super().__init__()
        # Copied, because tracing turns sizes in it into tensors.
        self.tower = copy.deepcopy(scorer.model.audio_model).cpu()
        self.projection = copy.deepcopy(scorer.model.audio_projection).cpu()
        features = scorer.features
        self.features, self.padding, self.length = features, features.padding, features.window_length
        self.power = MelPower(features.window, features.hop_length, features.filters)
        self.sample_rate_hz, self.shortest = scorer.sample_rate_hz, FRAME_LENGTH
        self.window_s = self.length / self.sample_rate_hz
        self.register_buffer("_place", torch.arange(self.length))

    def forward(self, waveform: Tensor) -> Tensor:
        """The embedding of a waveform, T ≥ `shortest`."""
        features = self.features.decibel(self.power(self._windows(levelled(waveform))))
        # No window is marked as longer than the input, see `ClapFeatures`.
        longer = torch.zeros_like(features[:, 0, 0, :1], dtype=torch.bool)
        projected = self.projection(self.tower(input_features=features, is_longer=longer).pooler_output)
        total = nn.functional.normalize(projected, dim=-1).double().sum(dim=0)
        return nn.functional.normalize(total, dim=0).float()

    def _windows(self, clip: Tensor) -> Tensor:
        """(windows, length), as `ClapFeatures.windows`; no size of the clip may become a Python number."""
        place = places(clip)
        count = place[-1] + 1
        rows = window_starts(place, self.length)[:, None] + self._place
        windows = clip[rows % count]
        if self.padding == "repeat":
            return windows
        whole = (self.length // count).clamp_min(1) if self.padding == "repeatpad" else 1
        return windows * (rows < whole * count)


class MelPower(nn.Module):
    """Mel powers of windows, with the frames of a centred `torch.stft`.

    Args:
        window: (fft_size,) of each frame.
        filters: (fft_size // 2 + 1, mel_bins).
    """

    _spectra: Tensor
    _filters: Tensor

    def __init__(self, window: Tensor, hop_length: int, filters: Tensor) -> None:
        super().__init__()
        self.size, self.hop_length = len(window), hop_length
        turns = np.outer(np.arange(self.size), np.arange(self.size // 2 + 1))
        waves = np.exp(turns % self.size * (2j * np.pi / self.size)).T * window.double().numpy()
        self.register_buffer("_spectra", torch.from_numpy(np.concatenate([waves.real, waves.imag])).float()[:, None])
        self.register_buffer("_filters", filters)

    def forward(self, windows: Tensor) -> Tensor:
        """(B, frames, mel_bins) of windows (B, window_length)."""
        half = self.size // 2
        filled = nn.functional.pad(windows[:, None], (half, half), mode="reflect")
        parts = nn.functional.conv1d(filled, self._spectra, stride=self.hop_length)
        real, imaginary = parts.transpose(1, 2).chunk(2, dim=2)
        return (real.square() + imaginary.square()) @ self._filters


def levelled(waveform: Tensor) -> Tensor:
    """As `common.audio.signal.levelled`."""
    power = waveform.double().square().mean()
    # The limit of the gain also holds for silence.
    gain_db = (LEVEL_DBFS - 10 * power.clamp_min(1e-30).log10()).clamp_max(MAX_GAIN_DB)
    return waveform * torch.pow(10.0, gain_db / 20).float()
