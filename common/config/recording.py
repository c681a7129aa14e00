"""Settings of random recording conditions in training."""

from __future__ import annotations

from pydantic import Field

from common.config.base import Frozen


class RecordingConfig(Frozen):
    """Level, noise floor, digital silence and band, which differ between recorders, at random; 0 = off."""

    gain_db: float = Field(default=0.0, ge=0, le=60, description="each clip becomes quieter by up to this")
    floor_db: float = Field(
        default=0.0, ge=0, le=90, description="half the clips get a noise floor this far below their peak, or lower"
    )
    silence_db: float = Field(
        default=0.0,
        ge=0,
        le=90,
        description="in half the clips frames this far below the loudest one, or farther, are digital silence",
    )
    lead_s: float = Field(default=0.0, ge=0, le=5, description="half the clips start with up to this much of it")
    band_hz: float = Field(
        default=0.0, ge=0, description="half the clips have nothing above a frequency between this and half the rate"
    )

    @property
    def on(self) -> bool:
        """Whether anything varies."""
        return any(value > 0 for value in self.model_dump().values())
