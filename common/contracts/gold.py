"""The artifacts `gold` and `test` beside their clips: facts about the dataset, its splits, its health."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from common.contracts.base import Contract

SplitBy = Literal["official", "group", "clip"]
"""Origin of a split: as the dataset says, or drawn by whole groups or by clip."""
ValidationFrom = Literal["official", "remaining", "training"]
"""Source of validation clips: the dataset's own, those that training does not use, or some of the training clips."""


class Dataset(Contract):
    """The dataset in words; without paths, which differ between machines."""

    name: str
    domain: str = Field(description="what is heard in it")
    licence: str
    reader: str
    test: str | float | None = Field(description="`split`: the dataset's own; a number: the share that is drawn")
    n: int | None = Field(description="training clips of a replicate; null = all")
    multi_label: bool = Field(
        default=False, exclude_if=lambda several: not several, description="whether clips may have several labels"
    )


class Replicate(Contract):
    """Ids of a replicate's clips."""

    train: list[str]
    val: list[str]


class Splits(Contract):
    """Which clips train and validate in each replicate."""

    replicates: dict[int, Replicate] = Field(description="by replicate")
    oracle: list[str] = Field(description="ids of the clips that the oracle is trained on")
    shared_gold: bool = Field(description="whether all replicates have the same clips")


@dataclass(frozen=True)
class Drop:
    """A clip that is left out: reason code, details in words, and the split that it was listed for."""

    source: str
    reason: str
    detail: str
    split: str | None = None


class Durations(Contract):
    """Seconds of the user's files."""

    shortest: float
    longest: float
    median: float
    total: float


class Noted(Contract):
    """Usable clips with one oddity."""

    clips: int
    sources: list[str] = Field(description="the first ones")


class Facts(Contract):
    """Facts about clips and the user's files behind them."""

    clips: int
    classes: dict[str, int] = Field(description="clips by label")
    sample_rates_hz: dict[str, int] = Field(description="clips by sample rate")
    channels: dict[str, int] = Field(description="clips by number of channels")
    formats: dict[str, int] = Field(description="clips by container and encoding")
    groups: int = Field(description="recordings, speakers or artists")
    duration_s: Durations
    dropped: list[Drop] = Field(description="clips left out")
    warnings: list[str] = Field(description="a sentence each")
    notes: dict[str, Noted] = Field(description="odd but usable clips, by code")


class Findings(Facts):
    """Facts about a dataset before it is split."""

    counts: dict[str, int] = Field(description="clips listed, usable and dropped; of splits, pool and oracle")
    duplicates: list[list[str]] = Field(description="sources of equal audio")
    ignored_columns: list[str] = Field(description="columns of the label file")
    ignored_files: list[str]


class HeldOutHealth(Facts):
    """Health of the test split."""

    test_split_by: SplitBy = Field(description="as the dataset says, or drawn by whole groups or by clip")
    dropped_by_reason: dict[str, int]
    warning_codes: list[str] = Field(description="of the warnings, in their order")


class Health(Findings, HeldOutHealth):
    """Health of the clips outside the test split."""

    duplicate_sets: int
    ignored_files_count: int
    clips_cut: int = Field(description="to their loudest part")
    seconds_cut: float
    validation_from: ValidationFrom = Field(description="the dataset's own, unused, or training clips")
    validation_split_by: SplitBy
    validation_from_training: bool
