"""The dataset file, and settings of `prepare_dataset`."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from common.config.base import Count, Frozen, Plan, Positive, Share
from common.registered import one_of


def _text(value: Any) -> Any:
    if value is None or isinstance(value, str | Path):
        return value
    raise ValueError(f"expected text, found the {type(value).__name__} {value!r}; put it in quotes")


Text = Annotated[str, BeforeValidator(_text)]
Place = Annotated[Path, BeforeValidator(_text)]


DeclaredUse = Literal["research", "non-commercial", "commercial"]
"""Intended use of a run's models and clips, from the one that needs the fewest rights to the most."""
PermittedUse = Literal["research", "non-commercial", "any"]
"""Widest use that a licence permits, in the same order."""

DESCRIPTIVE = ("source", "access", "instructions", "archives", "split_rule", "grouping", "use", "recordings_of")
"""Fields of `DatasetSpec` that are descriptions only and do not change which data are read."""


class Archive(Frozen):
    """A file to download."""

    url: Text = Field(pattern=r"^https?://")
    md5: Text | None = Field(None, pattern=r"^[0-9a-f]{32}$", description="null = not known")
    sha256: Text | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="null = not known")
    bytes: Count | None = Field(None, description="size; null = not known")
    unpack: bool = Field(True, description="false: the file itself belongs into the dataset's folder")
    folder: Text = Field("", pattern=r"^([A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*)?$", description="below the dataset's root")


class DatasetSpec(Frozen):
    """A dataset YAML with its paths made absolute."""

    name: Text = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="part of folder names")
    reader: Annotated[str, one_of("common.datasets.layouts", "files", "procedural_demo")] = Field(
        "files", description="files of the user, the built-in demo, or the native layout of a published dataset"
    )
    root: Place | None = Field(None, description="of a native layout; default: its name in the data folder")
    labels: Place | None = Field(None, description="CSV or JSONL; without it `audio` has a folder per class")
    audio: Place | None = Field(None, description="root of relative paths; default: the folder of `labels`")
    pushed: Text | None = Field(
        None, pattern=r"^(file|s3)://.+/lists/[0-9a-f]{64}\.json$", description="by `make push-data`"
    )
    given: Text | None = Field(None, exclude=True, description="place that the user named, set by a command")
    domain: Text = Field("sounds", min_length=1, max_length=80, description="what the clips are, for captions")
    test: float | Literal["split"] | None = Field(None, description="the column, or a fraction (default 0.2)")
    test_folds: tuple[int, ...] = Field((), description="of a dataset in folds: those of the test split")
    validation_folds: tuple[int, ...] = Field((), description="for validation; none: it is drawn from training")
    multi_label: bool = Field(False, description="several labels per clip: in a label file separated by ';' or '|'")
    classes: tuple[Text, ...] = Field((), description="so that a misspelt label is an error; none: those of the clips")
    n: Count | None = Field(None, description="training clips unless the run says otherwise; null = all")
    clip_s: Positive = Field(10.0, description="usual seconds of a clip, for estimates of cost; ours")
    licence: Text = Field("not stated", min_length=1, description="of the audio")
    use: PermittedUse = Field("any", description="widest use by the licence")
    source: Text | None = Field(None, description="home page")
    access: Literal["download", "form", "manual"] = Field("manual", description="`download`: of `archives`")
    instructions: Text | None = Field(None, description="where to get what cannot be downloaded freely")
    archives: tuple[Archive, ...] = Field((), description="in the order of unpacking")
    split_rule: Text | None = Field(None, description="in words: which clips test and validate")
    recordings_of: tuple[Text, ...] = Field((), description="collections that it was taken from, as in models.yaml")
    grouping: Text | None = Field(None, description="in words: what a group is")
    corpus_ids: tuple[Text, ...] = Field((), description="files that name its AudioSet or Freesound clips")

    @property
    def native(self) -> bool:
        """Whether the dataset has the native layout of a published one."""
        return self.reader not in ("files", "procedural_demo")

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
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


class LicensedPart(Frozen):
    """A dataset or published model used by a run."""

    name: str
    kind: Literal["dataset", "classifier", "generation"] = Field(description="or takes part in making clips")
    licence: str
    use: PermittedUse | None = Field(description="the widest allowed; null = not known")
    conditions: str = Field("", description="of the licence, in words")


Learnt = Literal["audio with labels", "audio with captions"]
"""What a model was given of a collection."""


class Heard(Frozen):
    """A model and a collection that both it and the dataset were made from."""

    model: str
    collection: str
    what: Learnt


class PrepareDatasetConfig(Frozen):
    """Reading, checking and splitting of the dataset."""

    storage_sample_rate_hz: int = Field(44100, ge=8000, le=192000, description="of stored clips; Stable Audio Open's")
    channels: Literal[1, 2] = Field(1, description="of stored clips at most; ours: all models hear mono")
    max_duration_s: Positive = Field(60.0, description="of a longer file the loudest window is kept; ours")
    min_duration_s: Positive = Field(0.05, description="ours: two frames of AST's log-mel")
    silence_dbfs: float = Field(-60.0, lt=0, description="a clip with nothing above this is silent; ours")
    max_bad_fraction: Share = Field(0.05, description="ours: more bad clips than this stop the run")
    bad_fraction_from: Count = Field(20, description="ours: clips from which on that limit holds")
    test_fraction: float = Field(0.2, gt=0, lt=1, description="of a dataset that names none; ours")
    validation_fraction: float = Field(0.2, gt=0, lt=1, description="of training, where no other clips remain; ours")
    validation_min_groups: int = Field(5, ge=2, description="groups from which validation holds whole ones out; ours")
    max_pool_clips: Count = Field(10000, description="decoded of an official part, about, by class; ours")
    oracle_max_clips: Count = Field(2000, description="ours, because more clips hardly help it")


class PrepareDatasetPlan(Plan):
    """Input of `prepare_dataset`."""

    settings: PrepareDatasetConfig = PrepareDatasetConfig()
    dataset: DatasetSpec
    n: Count | None = Field(None, description="exact number of training clips; null = all there are")
    replicates: tuple[int, ...] = Field(min_length=1)
    data_version: str = Field("", description="hash of the dataset's files, which KFP's cache does not see")
