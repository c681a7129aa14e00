"""Batched log-mel features, equal to those of `ClapFeatureExtractor`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import ClapFeatureExtractor

from common.audio.signal import fixed_windows
from common.errors import ConfigError, DataError

FLOOR = 1e-10
"""Lowest mel power, as in `transformers.audio_utils`: -100 dB."""


class ClapFeatures:
    """Features of a saved `ClapFeatureExtractor`, without its frame loop and its random crops.

    There are two differences. A clip longer than the window is cut into fixed windows that together
    cover it, where the extractor takes a random one. For fused checkpoints no window is marked as
    longer than the input, where the extractor marks a random one.
    """

    def __init__(self, extractor: ClapFeatureExtractor) -> None:
        self.sample_rate_hz = int(extractor.sampling_rate)
        self.window_length = int(extractor.max_length_s * extractor.sampling_rate)
        self.hop_length = int(extractor.hop_length)
        self.fft_size = int(extractor.fft_window_size)
        if extractor.truncation not in ("rand_trunc", "fusion"):
            raise ConfigError(
                f"CLAP feature extractor with truncation {extractor.truncation!r}: expected 'rand_trunc' or 'fusion'"
            )
        if extractor.padding not in ("repeatpad", "repeat", "pad"):
            raise ConfigError(
                f"CLAP feature extractor with padding {extractor.padding!r}: expected 'repeatpad', 'repeat' or 'pad'"
            )
        self.padding = str(extractor.padding)
        self._fused = extractor.truncation == "fusion"
        filters = extractor.mel_filters if self._fused else extractor.mel_filters_slaney
        self.filters = torch.from_numpy(np.asarray(filters, dtype=np.float32))
        self.window = torch.hann_window(self.fft_size)

    def windows(self, clip: np.ndarray) -> np.ndarray:
        """Cut or fill one clip to the model's windows.

        Args:
            clip: mono (T,) at `sample_rate_hz`, in [-1, 1].

        Returns (W, window_length) float32; W = 1 for clips up to the window length. Raises DataError: the clip is empty
        or not mono.
        """
        if clip.ndim != 1 or clip.size == 0:
            raise DataError(f"CLAP features of an array of shape {clip.shape}: expected mono audio (T,) with T > 0")
        clip = clip.astype(np.float32, copy=False)
        if clip.size > self.window_length:
            return fixed_windows(clip, self.window_length)
        return self._fill(clip)[None]

    def _fill(self, clip: np.ndarray) -> np.ndarray:
        length = self.window_length
        if self.padding == "repeat":
            return np.resize(clip, length)
        if self.padding == "repeatpad":
            clip = np.tile(clip, length // clip.size)
        return np.pad(clip, (0, length - clip.size))

    def spectrogram(self, clip: np.ndarray) -> np.ndarray:
        """Log-mel of a clip's first window without padding, (T, mel_bins) in dB, T > 0."""
        features = self(torch.from_numpy(self.windows(clip)[:1]))[0, 0]
        return features[: self.frames(clip.size)].numpy()

    def frames(self, samples: int) -> int:
        """Number of unpadded frames in the first window of a clip of `samples` samples."""
        return min(samples, self.window_length) // self.hop_length + 1

    def __call__(self, windows: Tensor) -> Tensor:
        """Log-mel spectrograms in dB.

        Computed in single precision, which is several times faster than the extractor's double precision and off
        by 3e-4 dB on broadband clips, by 0.03 dB in bands that lie 80 dB below a loud tone.

        Args:
            windows: (B, window_length), from `windows`.

        Returns (B, 1, frames, mel_bins) float32; (B, 4, …), four identical copies, for fused checkpoints.
        """
        # One window at a time, so that its frames stay in the CPU's cache; this halves the time.
        mel = torch.cat([self._mel_power(window) for window in windows.float().split(1)])
        return self.decibel(mel)

    def decibel(self, mel: Tensor) -> Tensor:
        """(B, 1 or 4, frames, mel_bins) in dB of mel powers (B, frames, mel_bins)."""
        decibel = 10.0 * mel.clamp_min(FLOOR).log10()[:, None]
        return decibel.expand(-1, 4, -1, -1) if self._fused else decibel

    def _mel_power(self, window: Tensor) -> Tensor:
        """(1, window_length) to (1, frames, mel_bins)."""
        spectrum = torch.stft(
            window,
            self.fft_size,
            self.hop_length,
            window=self.window.to(window.device),
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        return power.transpose(1, 2) @ self.filters.to(window.device)
