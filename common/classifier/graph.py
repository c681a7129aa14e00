"""A classifier on spectrograms from the waveform on, as a module of operations that ONNX has."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.classifier.features import LogMel
from common.classifier.model import Classifier


class WaveformLogits(nn.Module):
    """Logits (labels,) of one mono waveform (T,): the mean over its fixed windows, as `predict_logits` gives them.

    Attributes:
        window_s: seconds of a window.
    """

    _frame: Tensor
    _spectra: Tensor
    _row: Tensor

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        assert isinstance(classifier.front_end, LogMel)
        self.front_end, self.model = classifier.front_end, classifier.model
        self.shortest = self.front_end.frame_length
        self.window_s = self.front_end.max_length * self.front_end.hop_length / self.front_end.sample_rate_hz
        # The spectrum is a linear map, so that of the unit matrix is its matrix.
        unit = torch.eye(self.front_end.frame_length, dtype=torch.float64)
        self.register_buffer(
            "_spectra", torch.view_as_real(self.front_end.spectrum(unit)).permute(2, 0, 1).contiguous()
        )
        self.register_buffer("_frame", torch.arange(self.front_end.frame_length))
        self.register_buffer("_row", torch.arange(self.front_end.max_length))

    def forward(self, waveform: Tensor) -> Tensor:
        """Logits of a waveform, T ≥ `shortest`."""
        windows = self._windows(self._features(waveform))
        logits: Tensor = self.model(**self.front_end.inputs(windows)).logits
        return logits.mean(dim=0)

    def _features(self, waveform: Tensor) -> Tensor:
        """(frames, bins)."""
        starts = places(waveform)[: 1 - self.front_end.frame_length : self.front_end.hop_length]
        frames = self.front_end.levelled(waveform)[starts[:, None] + self._frame]
        return self.front_end.normalised(self.front_end.mel_power(frames @ self._spectra[0], frames @ self._spectra[1]))

    def _windows(self, features: Tensor) -> Tensor:
        """(windows, max_length, bins)."""
        length = self.front_end.max_length
        starts = window_starts(places(features[:, 0]), length)
        silence = features.new_full((length, features.shape[1]), self.front_end.pad_value)
        return torch.cat([features, silence])[starts[:, None] + self._row]


def places(values: Tensor) -> Tensor:
    """(T,) 0, 1, 2 … for values (T,)."""
    return torch.ones_like(values, dtype=torch.int64).cumsum(dim=0) - 1


def window_starts(values: Tensor, length: int) -> Tensor:
    """First places of the fixed windows of `length` places, as `fixed_window_starts`, for all `places` (T,).

    No size of the clip may become a Python number: a traced graph would keep that of the example.
    """
    window = values[::length] // length
    spare = (values[-1] + 1 - length).clamp_min(0).double()
    return (window.double() * (spare / window[-1].clamp_min(1).double())).round().long()
