"""Settings of `evaluate_classifier`."""

from typing import Any

from pydantic import Field

from common.config.base import Count, Frozen, Natural, Plan, Positive, PositiveShare
from common.config.dataset import DeclaredUse, Heard, LicensedPart
from common.config.methods import Method


class EvaluateClassifierConfig(Frozen):
    """Statistics on the test split, the leak guard and the quality of the synthetic clips."""

    resamples: int = Field(10000, ge=200, description="bootstrap draws; ours: intervals within 0.1 points")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of every interval; ours, the customary value")
    min_groups: int = Field(5, ge=2, description="groups are resampled whole from so many on, else clips")
    calibration_bins: int = Field(15, ge=2, description="of the expected calibration error (arXiv 1706.04599)")
    near_duplicate_cosine: PositiveShare = Field(0.98, description="CLAP similarity of pairs looked at closely; ours")
    near_duplicate_correlation: PositiveShare = Field(0.9, description="of the waveforms, at the best lag; ours")
    neighbours_checked: Count = Field(10, description="closest clips looked at for each test clip and set; ours")
    max_distance_clips: int = Field(2000, gt=1, description="clips of a set that enter the distances; ours")
    batch_size: Count = Field(32, description="clips per CLAP or classifier pass; changes speed only")


class EvaluateClassifierPlan(Plan):
    """Input of `evaluate_classifier`."""

    settings: EvaluateClassifierConfig
    replicates: tuple[int, ...] = Field(min_length=1)
    methods: dict[str, Method] = Field(min_length=1)
    use: DeclaredUse = Field("research", description="what the run is declared for, for the model card")
    licences: tuple[LicensedPart, ...] = Field((), description="of what went into the run, for the model card")
    heard: tuple[Heard, ...] = Field((), description="collections of the dataset that published models heard")


class ReportConfig(Frozen):
    """Amount of audio in the report."""

    examples_per_class: Natural = Field(2, description="accepted players per class, and rejected ones; ours")
    max_examples: Natural = Field(48, description="accepted players in all, and rejected ones; ours")
    max_audio_mb: float = Field(14.0, ge=0, le=18, description="FLAC inside the report, which is to stay below 25 MB")
    max_player_s: Positive = Field(10.0, description="longer clips are cut in the players only; ours")
    acoustic_clips: int = Field(200, ge=2, description="clips of each set whose spectrum is measured; ours")


class ReportPlan(Plan):
    """Input of `report`: the run's request, resolved by `plan`."""

    settings: ReportConfig = ReportConfig()
    preset: str
    dataset: dict[str, Any] = Field(description="name, domain, licence and the rest of the dataset's record")
    n: int | None = None
    methods: dict[str, Method] = Field(min_length=1)
    replicates: tuple[int, ...] = Field(min_length=1)
    command: str
    run_config: dict[str, Any] = Field(description="differing from the defaults: Argo repeats a task's input")
