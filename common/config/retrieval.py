"""Settings of `retrieve_audio`."""

from __future__ import annotations

from pydantic import Field

from common.config.base import Frozen, Plan


class RetrieveAudioConfig(Frozen):
    """Nearest clips of the pretraining corpus, the baseline "Retrieval" of the paper's Table 1."""

    batch_size: int = Field(default=32, gt=0, description="CLAP windows per pass; changes speed only")


class RetrieveAudioPlan(Plan):
    """Input of `retrieve_audio`."""

    settings: RetrieveAudioConfig = RetrieveAudioConfig()
    seeds: tuple[int, ...] = Field(min_length=1)
    clips_per_gold: int = Field(ge=0, description="0 = no method of the run retrieves")
