"""An analytic audio codec with the interface of diffusers' `AutoencoderOobleck`.

A learned autoencoder needs days on a GPU; this one is fitted in a second by one eigendecomposition
and lets the whole diffusion pipeline run on a CPU. Encoding projects log-mel patches onto their
principal components; decoding inverts that and finds phases by fast Griffin-Lim.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from common.config.codec import SpectralCodecConfig
from common.errors import DataError

_MOMENTUM = 0.99
_PHASE_SEED = 20240814
_SPECTRUM_STEPS = 8


@dataclass(frozen=True)
class PointDistribution:
    """A latent distribution of zero variance, with the methods of Oobleck's Gaussian."""

    mean: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """`(B, D, L)`: the latents; `generator` is not used."""
        return self.mean

    def mode(self) -> Tensor:
        """`(B, D, L)`: the latents."""
        return self.mean


@dataclass(frozen=True)
class Encoded:
    """Result of `encode`; named as in diffusers."""

    latent_dist: PointDistribution


@dataclass(frozen=True)
class Decoded:
    """Result of `decode`; named as in diffusers."""

    sample: Tensor


class SpectralCodec(ModelMixin, ConfigMixin):
    """Mono codec: `(B, 1, T)` float32 in [-1, 1] <-> latents `(B, latent_channels, T / hop_length)`.

    Latents have mean 0 and unit mean square over the clips of the fit. Create it with `SpectralCodec.fit`; the
    constructor makes an unfitted codec, to be filled with saved weights. Arguments: see `SpectralCodecConfig`.
    """

    @register_to_config  # type: ignore[untyped-decorator]  # diffusers has no types
    def __init__(
        self,
        sampling_rate: int = 16000,
        n_fft: int = 1024,
        frame_hop: int = 256,
        frames_per_latent: int = 2,
        n_mels: int = 64,
        latent_channels: int = 48,
        std_exponent: float = 0.6,
        floor_db: float = -80.0,
        griffin_lim_steps: int = 16,
        peak_limit: float = 0.98,
        audio_channels: int = 1,
    ) -> None:
        super().__init__()
        self.sampling_rate = sampling_rate
        self.hop_length = frame_hop * frames_per_latent
        size = n_mels * frames_per_latent
        window = torch.hann_window(n_fft, dtype=torch.float64)
        mel = mel_filters(n_mels, n_fft, sampling_rate)
        self.register_buffer("window", window.float())
        self.register_buffer("mel", torch.from_numpy(mel).float())
        self.register_buffer("mel_inverse", torch.from_numpy(np.linalg.pinv(mel)).float())
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("analysis", torch.zeros(latent_channels, size))
        self.register_buffer("synthesis", torch.zeros(size, latent_channels))
        self.register_buffer("ceiling", torch.zeros(()))

    @classmethod
    def fit(cls, clips: Iterable[np.ndarray], config: SpectralCodecConfig) -> SpectralCodec:
        """Fit components and scale to mono clips `(T,)`, float32 in [-1, 1], at `config.sampling_rate`.

        Raises:
            DataError: there are fewer patches than components.
        """
        codec = cls(**config.model_dump())
        size = config.n_mels * config.frames_per_latent
        count, total, square, ceiling = 0, np.zeros(size), np.zeros((size, size)), -np.inf
        for clip in clips:
            audio = torch.from_numpy(np.ascontiguousarray(clip, dtype=np.float32)).reshape(1, -1)
            patches = codec._patches(audio)[0].T.double().numpy()
            count += len(patches)
            total += patches.sum(0)
            square += patches.T @ patches
            ceiling = max(ceiling, float(patches.max()))
        if count <= size:
            raise DataError(f"the codec needs more than {size} latent frames to fit, found {count}: give it more clips")
        center = total / count
        values, vectors = np.linalg.eigh(square / count - np.outer(center, center))
        keep = np.argsort(values)[::-1][: config.latent_channels]
        vectors = vectors[:, keep]
        # The sign of an eigenvector is arbitrary: make its largest element positive.
        vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(vectors.shape[1])])
        std = np.sqrt(np.maximum(values[keep], 1e-12))
        scale = std ** (config.std_exponent - 1)
        scale /= np.sqrt(np.mean((std * scale) ** 2))
        codec.center.copy_(torch.from_numpy(center))
        codec.analysis.copy_(torch.from_numpy((vectors * scale).T))
        codec.synthesis.copy_(torch.from_numpy(vectors / scale))
        codec.ceiling.fill_(ceiling)
        return codec

    @torch.no_grad()
    def encode(self, x: Tensor, return_dict: bool = True) -> Encoded | tuple[PointDistribution]:
        """Encode `(B, 1, T)`; T is padded with zeros to a multiple of `hop_length`."""
        if x.ndim != 3 or x.shape[1] != 1:
            raise DataError(f"the spectral codec takes audio (B, 1, T), found {tuple(x.shape)}: mix down to mono")
        patches = self._patches(x[:, 0]) - self.center[:, None]
        posterior = PointDistribution(self.analysis @ patches)
        return Encoded(posterior) if return_dict else (posterior,)

    @torch.no_grad()
    def decode(
        self, z: Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> Decoded | tuple[Tensor]:
        """Decode latents `(B, D, L)` to audio `(B, 1, L * hop_length)`; deterministic."""
        # One clip at a time, because Griffin-Lim amplifies the rounding differences between batch sizes.
        sample = torch.stack([self._decode_clip(latent) for latent in z])[:, None]
        return Decoded(sample) if return_dict else (sample,)

    def log_mel(self, audio: Tensor) -> Tensor:
        """`(B, T)` -> natural log of mel magnitudes `(B, n_mels, frames)`, 0 = a full-scale sine in one bin."""
        spectrum = self._stft(self._padded(audio)).abs() * (2.0 / self.window.sum())
        floor = 10.0 ** (self.config.floor_db / 20)
        return (self.mel @ spectrum).clamp(min=floor).log()

    def _patches(self, audio: Tensor) -> Tensor:
        log_mel = self.log_mel(audio)
        batch, mels, frames = log_mel.shape
        step = self.config.frames_per_latent
        return log_mel.reshape(batch, mels, frames // step, step).permute(0, 3, 1, 2).reshape(batch, step * mels, -1)

    def _padded(self, audio: Tensor) -> Tensor:
        missing = max(1, -(-audio.shape[-1] // self.hop_length)) * self.hop_length - audio.shape[-1]
        return torch.nn.functional.pad(audio, (0, missing))

    def _stft(self, audio: Tensor) -> Tensor:
        # Half a window minus half a hop on both sides gives exactly T / frame_hop spectra.
        margin = (self.config.n_fft - self.config.frame_hop) // 2
        audio = torch.nn.functional.pad(audio[:, None], (margin, margin), mode="reflect")[:, 0]
        frames = audio.unfold(-1, self.config.n_fft, self.config.frame_hop) * self.window
        return torch.fft.rfft(frames).transpose(1, 2)

    def _istft(self, spectrum: Tensor, overlap: Tensor) -> Tensor:
        frames = torch.fft.irfft(spectrum.transpose(1, 2), n=self.config.n_fft) * self.window
        return self._overlap_add(frames) / overlap

    def _overlap_add(self, frames: Tensor) -> Tensor:
        count, margin = frames.shape[1], (self.config.n_fft - self.config.frame_hop) // 2
        length = (count - 1) * self.config.frame_hop + self.config.n_fft
        summed = torch.nn.functional.fold(
            frames.transpose(1, 2), (1, length), (1, self.config.n_fft), stride=(1, self.config.frame_hop)
        )
        return summed[:, 0, 0, margin : length - margin]

    def _magnitudes(self, mel: Tensor) -> Tensor:
        # Clipped least squares leaves holes where it would be negative; multiplicative updates keep the fit
        # to the mel spectrum and the magnitudes positive.
        spectrum = (self.mel_inverse @ mel).clamp(min=1e-7)
        target = self.mel.T @ mel
        for _ in range(_SPECTRUM_STEPS):
            spectrum = spectrum * target / (self.mel.T @ (self.mel @ spectrum)).clamp(min=1e-9)
        return spectrum

    def _decode_clip(self, latent: Tensor) -> Tensor:
        step, mels = self.config.frames_per_latent, self.config.n_mels
        patches = self.synthesis @ latent.float() + self.center[:, None]
        log_mel = patches.reshape(step, mels, -1).permute(1, 2, 0).reshape(mels, -1)
        floor = float(np.log(10.0) * self.config.floor_db / 20)
        mel = log_mel.clamp(min=floor).minimum(self.ceiling).exp()
        magnitude = (self._magnitudes(mel) * (self.window.sum() / 2))[None]
        audio = self._griffin_lim(magnitude)[0]
        return audio * (self.config.peak_limit / audio.abs().max().clamp(min=self.config.peak_limit))

    def _griffin_lim(self, magnitude: Tensor) -> Tensor:
        frames = magnitude.shape[-1]
        phase = np.random.default_rng(_PHASE_SEED).random((frames, magnitude.shape[1]), dtype=np.float32)
        angle = torch.from_numpy(2 * np.pi * phase.T[None]).to(magnitude)
        overlap = self._overlap_add((self.window**2).expand(1, frames, -1))
        estimate = torch.polar(magnitude, angle)
        previous = torch.zeros_like(estimate)
        for _ in range(self.config.griffin_lim_steps):
            rebuilt = self._stft(self._istft(estimate, overlap))
            moved = rebuilt + _MOMENTUM * (rebuilt - previous)
            previous = rebuilt
            estimate = magnitude * moved / moved.abs().clamp(min=1e-9)
        return self._istft(estimate, overlap)


def mel_filters(n_mels: int, n_fft: int, sampling_rate: int) -> np.ndarray:
    """Triangular filters of unit peak, evenly spaced in mel (HTK formula), 30 Hz to Nyquist: `(n_mels, n_fft/2+1)`."""

    def to_mel(hz: float) -> float:
        return float(2595.0 * np.log10(1.0 + hz / 700.0))

    edges_mel = np.linspace(to_mel(30.0), to_mel(sampling_rate / 2), n_mels + 2)
    edges_hz = 700.0 * (10.0 ** (edges_mel / 2595.0) - 1.0)
    # Widen narrow low filters to at least one bin; they would be empty otherwise.
    bins_hz = np.linspace(0.0, sampling_rate / 2, n_fft // 2 + 1)
    width = bins_hz[1]
    lower = np.minimum(edges_hz[:-2], edges_hz[1:-1] - width)[:, None]
    upper = np.maximum(edges_hz[2:], edges_hz[1:-1] + width)[:, None]
    peak = edges_hz[1:-1, None]
    rising, falling = (bins_hz - lower) / (peak - lower), (upper - bins_hz) / (upper - peak)
    return np.maximum(0.0, np.minimum(rising, falling))
