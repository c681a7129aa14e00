"""Settings of `report`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from common.config.base import Frozen, Plan
from common.methods import Method


class ReportConfig(Frozen):
    """How much audio the report carries."""

    examples_per_class: int = Field(default=2, ge=0, description="accepted players per class, and rejected ones; ours")
    max_examples: int = Field(default=48, ge=0, description="accepted players in all, and rejected ones; ours")
    max_audio_mb: float = Field(
        default=14.0,
        ge=0,
        le=18,
        description="FLAC inside the report; ours, because base64 adds a third and the file is to stay below 25 MB",
    )
    max_player_s: float = Field(default=10.0, gt=0, description="longer clips are cut in the players only; ours")
    acoustic_clips: int = Field(
        default=200, ge=2, description="clips of each set whose spectrum and pitch are measured, at most; ours"
    )


class ReportPlan(Plan):
    """Input of `report`: what the run was asked for, resolved by `plan`."""

    settings: ReportConfig = ReportConfig()
    preset: str
    dataset: dict[str, Any] = Field(description="name, domain, licence and the rest of the dataset's record")
    n: int | None = None
    methods: dict[str, Method] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    command: str
    run_config: dict[str, Any]
