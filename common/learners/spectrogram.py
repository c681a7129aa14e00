"""Mel energies of a waveform as a module of operations that ONNX has, so that a saved learner exports whole."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

FRAME_LENGTH = 400
"""Samples of a frame: 25 ms at 16 kHz."""


class MelPower(nn.Module):
    """Mel energies of frames of a waveform that is scaled to its peak.

    Args:
        bands: mel bands from 0 Hz to half the rate (HTK's scale), each filter with the sum 1.
        fft_length: points of the transform, at least `FRAME_LENGTH`.
    """

    _window: Tensor
    _waves: Tensor
    _filters: Tensor

    def __init__(self, sample_rate_hz: int, bands: int, fft_length: int, hop_length: int) -> None:
        super().__init__()
        self.hop_length = hop_length
        self.fft_length = fft_length
        window = np.hanning(FRAME_LENGTH + 1)[:-1]
        turns = np.outer(np.arange(fft_length // 2 + 1), np.arange(FRAME_LENGTH)) * (2 * np.pi / fft_length)
        waves = np.concatenate([np.cos(turns), np.sin(turns)]) * window
        filters = mel_filter_bank(
            num_frequency_bins=fft_length // 2 + 1,
            num_mel_filters=bands,
            min_frequency=0,
            max_frequency=sample_rate_hz / 2,
            sampling_rate=sample_rate_hz,
            norm=None,
            mel_scale="htk",
        )
        filters = filters / np.maximum(filters.sum(axis=0), 1e-9)
        self.register_buffer("_window", torch.from_numpy(window).float(), persistent=False)
        self.register_buffer("_waves", torch.from_numpy(waves).float()[:, None], persistent=False)
        self.register_buffer("_filters", torch.from_numpy(filters).float(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """(frames, bands) of a mono waveform (T,), T ≥ `FRAME_LENGTH`; zero for digital silence."""
        scaled = waveform / waveform.abs().max().clamp_min(1e-9)
        if torch.onnx.is_in_onnx_export():
            # ONNX has no such transform that all runtimes know; a convolution is the same sum, and slower.
            parts = nn.functional.conv1d(scaled[None, None], self._waves, stride=self.hop_length)[0]
            real, imaginary = parts.T.chunk(2, dim=1)
        else:
            frames = scaled.unfold(0, FRAME_LENGTH, self.hop_length) * self._window
            spectrum = torch.fft.rfft(frames, self.fft_length)
            real, imaginary = spectrum.real, spectrum.imag
        power: Tensor = (real.square() + imaginary.square()) @ self._filters
        return power
