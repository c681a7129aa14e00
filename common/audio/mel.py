"""Mel bands of waveforms: filters, levels and a waveform that has them, energies by operations of ONNX, pictures."""

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers.audio_utils import hertz_to_mel, mel_filter_bank, mel_to_hertz

from common.audio.signal import spectra

FRAME_LENGTH = 400
"""Samples of a frame of `PeakMelPower`: 25 ms at 16 kHz."""
PICTURE_BANDS = 72
PICTURE_COLUMNS = 300
RANGE_DB = 65.0

_PALETTE = ((13, 17, 38), (38, 44, 92), (58, 82, 139), (42, 120, 142), (45, 160, 133), (124, 199, 100), (244, 231, 120))
_MOMENTUM = 0.99
_EXCITATION_SEED = 20240814
_LARGEST_CHANGE = 20.0
"""Factor by which one step may change the level of a band."""


class MelBands(nn.Module):
    """Magnitudes in mel bands: `(B, T)` -> `(B, n_mels, T / hop)`, 1 = a full-scale sine in one bin.

    Args:
        sampling_rate: Hz.
        n_fft: samples of a window, a multiple of 4.
        hop: samples between windows, at most a quarter of one.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, sampling_rate: int, n_fft: int, hop: int, n_mels: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft, dtype=torch.float64).float())
        self.register_buffer("filters", torch.from_numpy(mel_filters(n_mels, n_fft, sampling_rate)).float())

    def forward(self, audio: Tensor) -> Tensor:
        """Levels of the bands; T is a multiple of `hop` and longer than (n_fft - hop) / 2."""
        return (_power(self._stft(audio)) @ self.filters.T).sqrt().transpose(1, 2) * (2 / self.window.sum())

    def waveform(self, bands: Tensor, steps: int) -> Tensor:
        """`(frames * hop,)` with the levels `bands` `(n_mels, frames)`, as near as `steps` steps come.

        Fast Griffin-Lim, but that a step scales the spectrum it has found to the levels of the bands, where the
        original puts a spectrum in its place: inside a band the spectrum stays free to become one that a waveform
        has. It begins with noise.
        """
        target = bands.T[None] * (self.window.sum() / 2)
        noise = np.random.default_rng(_EXCITATION_SEED).standard_normal(len(target[0]) * self.hop, dtype=np.float32)
        estimate = self._stft(torch.from_numpy(noise).to(bands)[None])
        estimate = estimate * self._change(_power(estimate), target)
        overlap = self._overlap_add((self.window**2).expand(1, bands.shape[1], -1))
        previous = torch.zeros_like(estimate)
        for _ in range(steps):
            rebuilt = self._stft(self._istft(estimate, overlap))
            moved = rebuilt + _MOMENTUM * (rebuilt - previous)
            previous, power = rebuilt, _power(rebuilt)
            # The magnitude of what was rebuilt, scaled, with the phase of what has moved on.
            estimate = moved * (self._change(power, target) * (power / _power(moved).clamp(min=1e-18)).sqrt())
        return self._istft(estimate, overlap)[0]

    def _change(self, power: Tensor, target: Tensor) -> Tensor:
        """Factors `(B, frames, bins)` that bring a spectrum to the levels `target` `(B, frames, n_mels)`."""
        change = target / (power @ self.filters.T).sqrt().clamp(min=1e-7)
        change = change.clamp(1 / _LARGEST_CHANGE, _LARGEST_CHANGE)
        return (change @ self.filters) / self.filters.sum(dim=0).clamp(min=1e-2)

    def _stft(self, audio: Tensor) -> Tensor:
        """`(B, T)` -> `(B, frames, bins)`."""
        # Half a window minus half a hop on both sides gives exactly T / hop spectra.
        margin = (self.n_fft - self.hop) // 2
        audio = nn.functional.pad(audio[:, None], (margin, margin), mode="reflect")[:, 0]
        return torch.fft.rfft(audio.unfold(-1, self.n_fft, self.hop) * self.window)

    def _istft(self, spectrum: Tensor, overlap: Tensor) -> Tensor:
        return self._overlap_add(torch.fft.irfft(spectrum, n=self.n_fft) * self.window) / overlap

    def _overlap_add(self, frames: Tensor) -> Tensor:
        """`(B, frames, n_fft)` -> `(B, frames * hop)`."""
        count, margin = frames.shape[1], (self.n_fft - self.hop) // 2
        parts = nn.functional.pad(frames, (0, -self.n_fft % self.hop)).unflatten(2, (-1, self.hop)).unbind(2)
        summed = frames.new_zeros(len(frames), count + len(parts) - 1, self.hop)
        for place, part in enumerate(parts):
            summed[:, place : place + count] += part
        return summed.flatten(1)[:, margin : margin + count * self.hop]


def _power(spectrum: Tensor) -> Tensor:
    return spectrum.real.square() + spectrum.imag.square()


class MelPower(nn.Module):
    """Mel powers of waves by a convolution, since ONNX has no such transform that all runtimes know.

    Args:
        window: (W,) of each frame.
        hop: samples between frames.
        filters: (fft_length // 2 + 1, bands), with fft_length ≥ W.
    """

    _waves: Tensor
    _filters: Tensor

    def __init__(self, window: np.ndarray, hop: int, filters: Tensor) -> None:
        super().__init__()
        self.hop, self.size, length = hop, len(window), 2 * (len(filters) - 1)
        turns = np.outer(np.arange(len(filters)), np.arange(len(window)))
        waves = np.exp(turns % length * (2j * np.pi / length)) * window
        waves = np.concatenate([waves.real, waves.imag])[:, None]
        self.register_buffer("_waves", torch.from_numpy(waves).float(), persistent=False)
        self.register_buffer("_filters", filters.float(), persistent=False)

    def forward(self, waves: Tensor) -> Tensor:
        """(B, frames, bands) of waves (B, T), T ≥ W."""
        parts = nn.functional.conv1d(waves[:, None], self._waves, stride=self.hop)
        real, imaginary = parts.transpose(1, 2).chunk(2, dim=2)
        return (real.square() + imaginary.square()) @ self._filters


class PeakMelPower(MelPower):
    """Mel energies of frames of a waveform that is scaled to its peak.

    Args:
        bands: mel bands from 0 Hz to half the rate (HTK's scale), each filter with the sum 1.
        fft_length: points of the transform, at least `FRAME_LENGTH`.
    """

    _window: Tensor

    def __init__(self, sample_rate_hz: int, bands: int, fft_length: int, hop: int) -> None:
        window = np.hanning(FRAME_LENGTH + 1)[:-1]
        filters = mel_filter_bank(
            num_frequency_bins=fft_length // 2 + 1,
            num_mel_filters=bands,
            min_frequency=0,
            max_frequency=sample_rate_hz / 2,
            sampling_rate=sample_rate_hz,
            norm=None,
            mel_scale="htk",
        )
        super().__init__(window, hop, torch.from_numpy(filters / np.maximum(filters.sum(axis=0), 1e-9)))
        self.fft_length = fft_length
        self.register_buffer("_window", torch.from_numpy(window).float(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """(frames, bands) of a mono waveform (T,), T ≥ `FRAME_LENGTH`; zero for digital silence."""
        scaled = waveform / waveform.abs().max().clamp_min(1e-9)
        if torch.onnx.is_in_onnx_export():
            return super().forward(scaled[None])[0]
        frames = scaled.unfold(0, FRAME_LENGTH, self.hop) * self._window
        return _power(torch.fft.rfft(frames, self.fft_length)) @ self._filters


def mel_filters(
    n_mels: int, n_fft: int, sampling_rate: int, lowest_hz: float = 30.0, scale: str = "slaney"
) -> np.ndarray:
    """Triangular filters of unit peak, evenly spaced in mel, from `lowest_hz` to Nyquist: `(n_mels, n_fft/2+1)`.

    Slaney's scale is linear up to 1 kHz, where others have more bands than a window of 32 ms tells apart.
    """
    mels = np.linspace(hertz_to_mel(lowest_hz, scale), hertz_to_mel(sampling_rate / 2, scale), n_mels + 2)
    edges_hz = mel_to_hertz(mels, scale)
    # Widen narrow low filters to at least one bin; they would be empty otherwise.
    bins_hz = np.linspace(0.0, sampling_rate / 2, n_fft // 2 + 1)
    width = bins_hz[1]
    lower = np.minimum(edges_hz[:-2], edges_hz[1:-1] - width)[:, None]
    upper = np.maximum(edges_hz[2:], edges_hz[1:-1] + width)[:, None]
    peak = edges_hz[1:-1, None]
    rising, falling = (bins_hz - lower) / (peak - lower), (upper - bins_hz) / (upper - peak)
    return np.maximum(0.0, np.minimum(rising, falling))


def spectrogram(waveform: NDArray[np.float32], rate: int) -> NDArray[np.uint8]:
    """Log-mel spectrogram of a mono clip (T,) as an image, (PICTURE_BANDS, columns), highest band first.

    Frames of 32 ms; 50 Hz to half the rate (Hz); 255 = the loudest, `RANGE_DB` below it is 0. A silent clip is all 0.
    """
    size = 2 ** round(np.log2(0.032 * rate))
    hop = max(size // 4, -(-(len(waveform) - size) // PICTURE_COLUMNS))
    power = np.abs(spectra(waveform, size, hop)) ** 2 @ mel_filters(PICTURE_BANDS, size, rate, 50.0, "htk").T
    if power.max() < 1e-10:
        return np.zeros(power.T.shape, np.uint8)
    decibels = 10 * np.log10(np.maximum(power / power.max(), 1e-12))
    shade = np.clip(1 + decibels / RANGE_DB, 0, 1)
    return np.round(255 * shade).astype(np.uint8).T[::-1]


def png(image: NDArray[np.uint8]) -> bytes:
    """Encode (height, width) shades 0 to 255, from dark to bright, as PNG; equal shades give equal bytes."""
    stops = np.array(_PALETTE, dtype=np.float64)
    place = np.linspace(0, len(stops) - 1, 256)
    colours = np.stack([np.interp(place, np.arange(len(stops)), channel) for channel in stops.T], axis=1)
    picture = Image.fromarray(image, "P")
    picture.putpalette(np.round(colours).astype(np.uint8).tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()
