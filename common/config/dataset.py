"""The dataset file, and settings of `prepare_dataset`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from common.config.base import Frozen, Plan
from common.registered import one_of


def _text(value: Any) -> Any:
    if value is None or isinstance(value, str | Path):
        return value
    raise ValueError(f"expected text, found the {type(value).__name__} {value!r}; put it in quotes")


Text = Annotated[str, BeforeValidator(_text)]
Place = Annotated[Path, BeforeValidator(_text)]


DESCRIPTIVE = ("source", "access", "instructions", "archives", "split_rule", "grouping", "use", "recordings_of")
"""Fields of `DatasetSpec` that are descriptions only and do not change which data are read."""


class Archive(Frozen):
    """A file to download."""

    url: Text = Field(pattern=r"^https?://")
    md5: Text | None = Field(default=None, pattern=r"^[0-9a-f]{32}$", description="null = not known")
    sha256: Text | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", description="null = not known")
    bytes: int | None = Field(default=None, gt=0, description="size; null = not known")
    unpack: bool = Field(default=True, description="false: the file itself belongs into the dataset's folder")
    folder: Text = Field(
        default="",
        pattern=r"^([A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*)?$",
        description="below the dataset's root, to unpack or put it into",
    )


class DatasetSpec(Frozen):
    """A dataset YAML with its paths made absolute."""

    name: Text = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="letters, digits, '.', '_' and '-': it becomes part of folder names",
    )
    reader: Annotated[str, one_of("common.datasets.layouts", "files", "procedural_demo")] = Field(
        default="files",
        description="files of the user, the built-in procedural demo, or the native layout of a published dataset",
    )
    root: Place | None = Field(
        default=None,
        description="where a dataset of native layout lies; default: its name in the data folder (SYNTHIO_DATA)",
    )
    labels: Place | None = Field(
        default=None, description="CSV or JSONL: path,label[,split][,group]; without it `audio` has a folder per class"
    )
    audio: Place | None = Field(default=None, description="root of relative paths; default: the folder of `labels`")
    pushed: Text | None = Field(
        default=None,
        pattern=r"^(file|s3)://.+/lists/[0-9a-f]{64}\.json$",
        description="list of clips in an object store, as `make push-data` writes it, instead of `labels` and `audio`",
    )
    domain: Text = Field(default="sounds", min_length=1, max_length=80, description="what the clips are, for captions")
    test: float | Literal["split"] | None = Field(
        default=None, description="`split` = the column (default where there is one), or a fraction (default 0.2)"
    )
    test_folds: tuple[int, ...] = Field(
        default=(), description="of a dataset that comes in folds: those of the test split; its other folds train"
    )
    validation_folds: tuple[int, ...] = Field(
        default=(), description="folds for validation; none: validation is drawn from the training folds"
    )
    multi_label: bool = Field(
        default=False, description="clips may have several labels: in a label file separated by ';' or '|'"
    )
    classes: tuple[Text, ...] = Field(
        default=(), description="labels that there may be, so that a misspelt one is an error; none: those of the clips"
    )
    n: int | None = Field(default=None, gt=0, description="training clips unless the run says otherwise; null = all")
    clip_s: float = Field(default=10.0, gt=0, description="usual seconds of a clip, for estimates of cost; ours")
    licence: Text = Field(default="not stated", min_length=1, description="of the audio")
    use: Literal["any", "non-commercial", "research"] = Field(
        default="any", description="the widest use that the licence allows"
    )
    source: Text | None = Field(default=None, description="home page")
    access: Literal["download", "form", "manual"] = Field(
        default="manual", description="`download`: `archives` may be fetched as they are; else see `instructions`"
    )
    instructions: Text | None = Field(default=None, description="where to get what cannot be downloaded freely")
    archives: tuple[Archive, ...] = Field(default=(), description="in the order of unpacking")
    split_rule: Text | None = Field(default=None, description="in words: which clips test and validate")
    recordings_of: tuple[Text, ...] = Field(
        default=(), description="collections that its recordings were taken from, as in `trained_on` of models.yaml"
    )
    grouping: Text | None = Field(default=None, description="in words: what a group is")
    corpus_ids: tuple[Text, ...] = Field(
        default=(),
        description="files that name AudioSet clips of this dataset in the first column, such as DCASE 2017 task 4's, "
        "or Freesound clips in a column headed fname, fsID, src_file or freesound_id: the pretraining corpus leaves "
        "them out",
    )

    @property
    def native(self) -> bool:
        """Whether the dataset has the native layout of a published one."""
        return self.reader not in ("files", "procedural_demo")

    @model_validator(mode="after")
    def _has_a_source(self) -> DatasetSpec:
        if self.pushed is not None and (self.labels or self.audio):
            raise ValueError("expected `pushed:` alone, or `labels:` and `audio:`")
        if self.reader != "files" and (self.labels or self.audio or self.pushed):
            raise ValueError(f"expected no `labels:`, `audio:` or `pushed:` with `reader: {self.reader}`")
        if not self.native and (self.root or self.test_folds or self.validation_folds):
            raise ValueError(f"expected no `root:` and no folds with `reader: {self.reader}`")
        if both := set(self.test_folds) & set(self.validation_folds):
            raise ValueError(f"fold {min(both)} is both in `test_folds:` and in `validation_folds:`")
        if self.reader == "files" and self.labels is None and self.audio is None and self.pushed is None:
            raise ValueError("expected `labels:` (a CSV or JSONL) or `audio:` (a folder with one sub-folder per class)")
        if isinstance(self.test, float) and not 0 < self.test < 1:
            raise ValueError(f"test: {self.test:g} is no fraction between 0 and 1")
        return self


class PrepareDatasetConfig(Frozen):
    """Reading, checking and splitting of the dataset."""

    storage_sample_rate_hz: int = Field(
        default=44100, ge=8000, le=192000, description="of stored clips; ours: the rate of Stable Audio Open"
    )
    channels: Literal[1, 2] = Field(
        default=1, description="of stored clips at most; ours, because every model of the pipeline hears mono"
    )
    max_duration_s: float = Field(
        default=60.0, gt=0, description="of a longer file the loudest window is kept; ours, six text-to-audio windows"
    )
    min_duration_s: float = Field(default=0.05, gt=0, description="ours: two frames of AST's log-mel")
    silence_dbfs: float = Field(default=-60.0, lt=0, description="a clip with nothing above this is silent; ours")
    max_bad_fraction: float = Field(default=0.05, ge=0, le=1, description="ours: more bad clips than this stop the run")
    bad_fraction_from: int = Field(default=20, ge=1, description="ours: clips from which on that limit holds")
    test_fraction: float = Field(default=0.2, gt=0, lt=1, description="of a dataset that names none; ours")
    validation_fraction: float = Field(
        default=0.2, gt=0, lt=1, description="of the training clips, where no other labelled clips remain; ours"
    )
    validation_min_groups: int = Field(
        default=5,
        ge=2,
        description="ours: with fewer groups validation is drawn by clip, because one group held out "
        "would take a quarter of the speakers or more from training",
    )
    max_pool_clips: int = Field(
        default=10000,
        gt=0,
        description="of an official training part, and of an official validation part, at most about so many clips are "
        "decoded, drawn by class (and at least twice N); ours: NSynth has 289,205",
    )
    oracle_max_clips: int = Field(default=2000, gt=0, description="ours, because more clips hardly help it")


class PrepareDatasetPlan(Plan):
    """Input of `prepare_dataset`."""

    settings: PrepareDatasetConfig = PrepareDatasetConfig()
    dataset: DatasetSpec
    n: int | None = Field(default=None, gt=0, description="exact number of training clips; null = all there are")
    seeds: tuple[int, ...] = Field(min_length=1)
    data_version: str = Field(default="", description="hash of the dataset's files, which KFP's cache does not see")
