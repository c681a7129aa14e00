"""Settings of `evaluate_classifier`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from common.config.base import Frozen, Plan
from common.config.licence import DeclaredUse, Heard, LicensedPart
from common.config.methods import Method


class EvaluateClassifierConfig(Frozen):
    """Statistics on the test split, the leak guard and the quality of the synthetic clips."""

    resamples: int = Field(
        default=10000,
        ge=200,
        description="bootstrap draws; ours, because 10,000 hold the ends of the interval within 0.1 points; of clips "
        "with several labels fewer, if clips and labels are very many",
    )
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="of every interval; ours, the customary value")
    min_groups: int = Field(
        default=5,
        ge=2,
        description="groups (speakers, recordings) are resampled whole from this many on; with fewer, clips are, "
        "because a bootstrap over two or three groups says nothing",
    )
    calibration_bins: int = Field(default=15, ge=2, description="of the expected calibration error (arXiv 1706.04599)")
    near_duplicate_cosine: float = Field(
        default=0.98, gt=0, le=1, description="CLAP similarity from which a pair is looked at closely; ours"
    )
    near_duplicate_correlation: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="normalised cross-correlation of the waveforms, at the best lag, that confirms a near-duplicate; "
        "ours: copies with other gain, 10 dB of noise or another codec stay above it",
    )
    neighbours_checked: int = Field(
        default=10, gt=0, description="closest clips looked at for each test clip and set; ours, to bound the time"
    )
    max_distance_clips: int = Field(
        default=2000,
        gt=1,
        description="clips of a set that enter the Fréchet and kernel distances; ours, to bound the time",
    )
    batch_size: int = Field(default=32, gt=0, description="clips per CLAP or classifier pass; changes speed only")


class EvaluateClassifierPlan(Plan):
    """Input of `evaluate_classifier`."""

    settings: EvaluateClassifierConfig
    seeds: tuple[int, ...] = Field(min_length=1)
    methods: dict[str, Method] = Field(min_length=1)
    use: DeclaredUse = Field(default="research", description="what the run is declared for, for the model card")
    licences: tuple[LicensedPart, ...] = Field(default=(), description="of what went into the run, for the model card")
    heard: tuple[Heard, ...] = Field(default=(), description="collections of the dataset that published models heard")


class ReportConfig(Frozen):
    """Amount of audio in the report."""

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
    """Input of `report`: the run's request, resolved by `plan`."""

    settings: ReportConfig = ReportConfig()
    preset: str
    dataset: dict[str, Any] = Field(description="name, domain, licence and the rest of the dataset's record")
    n: int | None = None
    methods: dict[str, Method] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    command: str
    run_config: dict[str, Any] = Field(
        description="settings of the run that differ from the defaults: Argo keeps each task's input several times"
    )
