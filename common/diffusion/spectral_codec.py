"""An analytic audio codec with the interface of diffusers' `AutoencoderOobleck`.

A learned autoencoder needs days on a GPU; this one is fitted in seconds by one eigendecomposition and one regression,
and lets the whole diffusion pipeline run on a CPU. Encoding projects log-mel patches onto their principal components.
Decoding inverts that, puts back as noise what the components leave out, and finds a waveform with these mel bands.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_oobleck import (
    AutoencoderOobleck,
    AutoencoderOobleckOutput,
    OobleckDecoderOutput,
)
from diffusers.models.autoencoders.vae import IdentityDistribution
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from common.audio.mel import MelBands
from common.config.corpus import SpectralCodecConfig
from common.errors import DataError
from common.storage import read_json

_TEXTURE_SEED = 20240814
_TEXTURE_FLOOR = 1e-2
"""Energy (squared nepers) below which texture is not heard; keeps its logarithm finite."""
_TEXTURE_LIMIT = 1.0
_TEXTURE_SHARE = 0.72
"""Share of the texture's energy that is put in as noise: the search for a waveform adds the rest."""
_TEXTURE_PATCHES = 20_000
"""Latent frames of which the texture is learned, at most."""


class SpectralCodec(ModelMixin, ConfigMixin):
    """Mono codec: `(B, 1, T)` float32 in [-1, 1] <-> latents `(B, latent_channels, T / hop_length)`.

    Latents have mean 0 and unit mean square over the clips of the fit. Create it with `SpectralCodec.fit`; the
    constructor makes an unfitted codec, to be filled with saved weights. Arguments: see `SpectralCodecConfig`.
    """

    @register_to_config  # type: ignore[untyped-decorator]  # diffusers has no types
    def __init__(
        self,
        sampling_rate: int = 16000,
        n_fft: int = 512,
        frame_hop: int = 128,
        frames_per_latent: int = 4,
        n_mels: int = 64,
        latent_channels: int = 48,
        std_exponent: float = 0.6,
        floor_db: float = -100.0,
        griffin_lim_steps: int = 16,
        peak_limit: float = 0.98,
        audio_channels: int = 1,
    ) -> None:
        super().__init__()
        self.sampling_rate = sampling_rate
        self.hop_length = frame_hop * frames_per_latent
        size = n_mels * frames_per_latent
        self.bands = MelBands(sampling_rate, n_fft, frame_hop, n_mels)
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("analysis", torch.zeros(latent_channels, size))
        self.register_buffer("synthesis", torch.zeros(size, latent_channels))
        self.register_buffer("texture", torch.zeros(n_mels, 2 * latent_channels + 1))
        self.register_buffer("ceiling", torch.zeros(()))

    @classmethod
    def fit(cls, clips: Iterable[np.ndarray], config: SpectralCodecConfig) -> Self:
        """Fit components, scale and texture to mono clips `(T,)`, float32 in [-1, 1], at `config.sampling_rate`.

        Raises DataError: there are fewer patches than components.
        """
        codec = cls(**config.model_dump())
        size = config.n_mels * config.frames_per_latent
        count, total, square, ceiling = 0, np.zeros(size), np.zeros((size, size)), -np.inf
        kept: list[Tensor] = []
        for clip in clips:
            audio = torch.from_numpy(np.ascontiguousarray(clip, dtype=np.float32)).reshape(1, -1)
            found = codec._patches(audio)[0]
            if count < _TEXTURE_PATCHES:
                kept.append(found)
            patches = found.T.double().numpy()
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
        codec._fit_texture(torch.cat(kept, dim=1))
        return codec

    @torch.no_grad()
    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderOobleckOutput:
        """Encode `(B, 1, T)`; T is padded with zeros to a multiple of `hop_length`."""
        if x.ndim != 3 or x.shape[1] != 1:
            raise DataError(f"the spectral codec takes audio (B, 1, T), found {tuple(x.shape)}: mix down to mono")
        patches = self._patches(x[:, 0]) - self.center[:, None]
        return AutoencoderOobleckOutput(IdentityDistribution(self.analysis @ patches))

    @torch.no_grad()
    def decode(
        self, z: Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> OobleckDecoderOutput:
        """Decode latents `(B, D, L)` to audio `(B, 1, L * hop_length)`; deterministic."""
        # One clip at a time, because the search for phases amplifies the rounding differences between batch sizes.
        return OobleckDecoderOutput(torch.stack([self._decode_clip(latent.float()) for latent in z])[:, None])

    def log_mel(self, audio: Tensor) -> Tensor:
        """`(B, T)` -> natural log of mel magnitudes `(B, n_mels, frames)`, 0 = a full-scale sine in one bin."""
        missing = max(1, -(-audio.shape[-1] // self.hop_length)) * self.hop_length - audio.shape[-1]
        bands: Tensor = self.bands(torch.nn.functional.pad(audio, (0, missing)))
        return bands.clamp(min=10.0 ** (self.config.floor_db / 20)).log()

    def _patches(self, audio: Tensor) -> Tensor:
        log_mel = self.log_mel(audio)
        batch, mels, frames = log_mel.shape
        step = self.config.frames_per_latent
        return log_mel.reshape(batch, mels, frames // step, step).permute(0, 3, 1, 2).reshape(batch, step * mels, -1)

    def _fit_texture(self, patches: Tensor) -> None:
        """Regress the log energy, by band, of what the components leave out of `patches` `(size, L)` on the latents."""
        centered = patches - self.center[:, None]
        left_out = self._left_out(centered).reshape(self.config.frames_per_latent, self.config.n_mels, -1)
        energy = left_out.square().mean(dim=0).double()
        heard = _powers(self.analysis @ centered).double()
        ridge = 1e-3 * heard.shape[1] * torch.eye(len(heard), dtype=torch.float64)
        weights = torch.linalg.solve(heard @ heard.T + ridge, heard @ (energy + _TEXTURE_FLOOR).log().T).T
        # The mean of a logarithm lies below the logarithm of the mean.
        weights[:, -1] += ((energy + _TEXTURE_FLOOR).mean(dim=1) / (weights @ heard).exp().mean(dim=1)).log()
        self.texture.copy_(weights)

    def _texture(self, latent: Tensor) -> Tensor:
        """Noise `(size, L)` in the place of what the components leave out of a clip: they are blind to it.

        It is what they leave out of white noise: levels of windows that overlap hang together, and a waveform can have
        no others.
        """
        step, mels = self.config.frames_per_latent, self.config.n_mels
        energy = ((self.texture @ _powers(latent)).exp() - _TEXTURE_FLOOR).clamp(0, _TEXTURE_LIMIT)
        length = latent.shape[1] * self.hop_length
        noise = np.random.default_rng(_TEXTURE_SEED).standard_normal((1, length), dtype=np.float32)
        bands = self._patches(torch.from_numpy(noise).to(latent))[0].reshape(step, mels, -1)
        left_out = self._left_out((bands - bands.mean(dim=(0, 2), keepdim=True)).reshape(step * mels, -1))
        left_out = left_out.reshape(step, mels, -1)
        scale = (_TEXTURE_SHARE * energy / left_out.square().mean(dim=(0, 2)).clamp(min=1e-9)[:, None]).sqrt()
        return self._left_out((left_out * scale).reshape(step * mels, -1))

    def _left_out(self, centered: Tensor) -> Tensor:
        """Of patches `(size, L)` without their mean: what the components leave out."""
        return centered - self.synthesis @ (self.analysis @ centered)

    def _decode_clip(self, latent: Tensor) -> Tensor:
        step, mels = self.config.frames_per_latent, self.config.n_mels
        smooth = self.synthesis @ latent + self.center[:, None]
        # Classifiers hear a clip relative to its loudest moment, which noise must not make louder.
        patches = (smooth + self._texture(latent)).minimum(smooth.max())
        log_mel = patches.reshape(step, mels, -1).permute(1, 2, 0).reshape(mels, -1)
        floor = float(np.log(10.0) * self.config.floor_db / 20)
        bands = log_mel.clamp(min=floor).minimum(self.ceiling).exp()
        audio = self.bands.waveform(bands, self.config.griffin_lim_steps)
        return audio * (self.config.peak_limit / audio.abs().max().clamp(min=self.config.peak_limit))


def _powers(latents: Tensor) -> Tensor:
    """`(2 D + 1, L)`: latents `(D, L)`, their squares, and 1."""
    return torch.cat([latents, latents.square(), torch.ones_like(latents[:1])])


_CLASSES: dict[str, Any] = {"AutoencoderOobleck": AutoencoderOobleck, "SpectralCodec": SpectralCodec}


def load_autoencoder(path: str | Path, device: str = "cpu") -> Any:
    """Load the autoencoder saved in a folder (`save_pretrained`), in evaluation mode.

    Raises DataError: the folder holds another class.
    """
    name = read_json(Path(path) / "config.json").get("_class_name")
    if name not in _CLASSES:
        raise DataError(f"{path} holds a {name}, expected {' or '.join(_CLASSES)}")
    return _CLASSES[name].from_pretrained(str(path), dtype=torch.float32, use_safetensors=True).to(device).eval()
