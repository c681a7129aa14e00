"""Whisper's encoder from the waveform on, as a module of operations that ONNX has."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from common.classifier.features import FRAME_LENGTH
from common.classifier.graph import places, window_starts
from common.learners.clap_graph import MelPower, levelled
from common.learners.encoders import Whisper


class WhisperEmbedding(nn.Module):
    """Features (D,) of one mono waveform (T,), as the front end `Whisper` gives them.

    Attributes:
        window_s: seconds of a window.
    """

    _place: Tensor

    def __init__(self, hears: Whisper) -> None:
        super().__init__()
        extractor = hears.extractor
        # Copied, because tracing turns sizes in it into tensors.
        self.encoder = copy.deepcopy(hears.encoder).cpu()
        filters = torch.from_numpy(extractor.mel_filters).float()
        self.power = MelPower(torch.hann_window(extractor.n_fft), extractor.hop_length, filters)
        self.length, self.frame_length = hears.window_length, hears.frame_length
        self.sample_rate_hz, self.shortest = hears.sample_rate_hz, FRAME_LENGTH
        self.window_s = self.length / self.sample_rate_hz
        self.register_buffer("_place", torch.arange(self.length))

    def forward(self, waveform: Tensor) -> Tensor:
        """The features of a waveform, T ≥ `shortest`."""
        clip = levelled(waveform)
        place = places(clip)
        count = place[-1] + 1
        rows = window_starts(place, self.length)[:, None] + self._place
        # The extractor drops the last frame, and all that is 80 dB below the loudest bin of a window.
        levels = self.power(clip[rows % count] * (rows < count))[:, :-1].clamp_min(1e-10).log10()
        levels = torch.maximum(levels, levels.amax(dim=(1, 2), keepdim=True) - 8.0)
        states = self.encoder(((levels + 4.0) / 4.0).transpose(1, 2)).last_hidden_state
        heard = self._place[: states.shape[1]] * self.frame_length < count
        return (states * heard[:, None]).sum(dim=1).mean(dim=0) / heard.sum()
