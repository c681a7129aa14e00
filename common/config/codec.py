"""Settings of the analytic spectral codec, a stand-in for a learned autoencoder."""

from __future__ import annotations

from pydantic import Field, model_validator

from common.config.base import Frozen


class SpectralCodecConfig(Frozen):
    """Log-mel patches, principal components, Griffin-Lim; one latent frame = `frames_per_latent` spectra.

    Defaults are ours, for speech and sounds at 16 kHz; `make bench-codec` measures what a round trip costs.
    """

    sampling_rate: int = Field(default=16000, ge=8000, le=48000, description="Hz")
    n_fft: int = Field(default=512, ge=64)
    frame_hop: int = Field(default=128, ge=16, description="samples between spectra")
    frames_per_latent: int = Field(default=4, ge=1, le=8)
    n_mels: int = Field(default=64, ge=8, le=256)
    latent_channels: int = Field(default=48, ge=2, description="principal components of n_mels * frames_per_latent")
    std_exponent: float = Field(
        default=0.6,
        ge=0,
        le=1,
        description="latent std profile ~ component std ** this: 0 whitens, 1 leaves as is; 0.6 gave the best model",
    )
    floor_db: float = Field(
        default=-100.0,
        ge=-120,
        le=-40,
        description="of the mel magnitudes, re a full-scale sine; quiet recordings lose their lowest 20 dB at -80",
    )
    griffin_lim_steps: int = Field(default=16, ge=1, le=200)
    peak_limit: float = Field(default=0.98, gt=0, le=1, description="louder decoded clips are scaled down to it")

    @model_validator(mode="after")
    def _sizes_fit(self) -> SpectralCodecConfig:
        if self.n_fft % 4 or self.frame_hop * 4 > self.n_fft:
            raise ValueError(
                f"n_fft ({self.n_fft}) must be a multiple of 4 and at least 4 * frame_hop ({self.frame_hop})"
            )
        if self.latent_channels > self.n_mels * self.frames_per_latent:
            raise ValueError(
                f"latent_channels ({self.latent_channels}) exceeds n_mels * frames_per_latent "
                f"({self.n_mels * self.frames_per_latent})"
            )
        if self.frame_hop * self.frames_per_latent <= (self.n_fft - self.frame_hop) // 2:
            raise ValueError("one latent frame must be longer than (n_fft - frame_hop) / 2 samples")
        return self
