"""The artifacts `study` and `night`: a study's cells beside the published table; a night in its history.

Figures are shares in [0, 1]; where it is said, percent and points.
"""

from typing import Any, Literal

from pydantic import AliasChoices, Field

from common.contracts.base import Contract, absent
from common.contracts.evaluation import Bests, Figure, Headline, Interval, LearnerScore, MethodDifference, Range
from common.contracts.report import Cost, FactorPoint, Judgement, LongTail
from common.contracts.training import Strength


class Estimate(Contract):
    """Cost of a study with an empty store."""

    cells: int
    items: int = Field(description="classifiers to report")
    hours: float
    cpu_hours: float
    gpu_hours: float
    storage_gb: float
    price_per_hour: float = Field(description="US dollars")
    money: float = Field(description="US dollars")
    stages: dict[str, float] = Field(description="seconds of each stage")
    source: str
    gpu: str = Field(description="kind; empty where none is needed")


class Real(Contract):
    """What a study took on one machine."""

    hours: float
    money: float = Field(description="US dollars, at the price of the estimate")
    machine: dict[str, Any] = Field(description="as in run.json")
    tasks: int
    reused: int = Field(description="tasks from the cache")


class Measured(Headline):
    """Figures of a method beside the published one."""

    title: str
    macro_f1: Interval
    published: float | None = Field(description="percent, of arXiv 2410.02056, Table 1; null = none there")
    difference: Range | None = Field(description="measured less published, in points; the interval is the measured one")


class StudyDifference(MethodDifference):
    """Difference of two methods in a cell."""

    p_study: float = Field(description="corrected for the number of comparisons in all cells")


class ClipSet(Contract):
    """Figures of a synthetic set; null = not measured."""

    name: str
    oracle: float | None = Field(description="share in which the oracle hears what was asked for")
    frechet: float | None = Field(default=None, description="distance of CLAP embeddings to gold clips")
    kernel: float | None = Field(default=None, description="the same")
    acoustics: dict[str, int | float] = Field(description="clips, shift and ks, as in report.json")
    distinct_2: float | None = Field(default=None, description="of the captions")
    self_bleu: float | None = Field(default=None, description="of the captions")


class PartFailure(Contract):
    """What failed: a training, a stage, or the whole cell."""

    error: str
    dataset: str | None = absent("of the cell, in the list of the whole study")
    n: int | None = absent()
    stage: str | None = absent("of a cell that did not finish, where it is known")
    method: str | None = absent("this and the rest: as report.json says it of a training")
    seed: int | None = absent()
    classic: str | None = absent()
    strength: Strength | None = absent()
    factor: int | None = absent()


class StudyCell(Contract):
    """One dataset with one number of training clips."""

    dataset: str
    n: int
    state: Literal["done", "failed"]
    seconds: float | None = Field(default=None, description="from the start of the study; null when it failed")
    figure: Figure = "accuracy"
    methods: dict[str, Measured] = Field(default={})
    learners: dict[str, LearnerScore] = Field(default={}, description="each on real clips alone")
    best: Bests | None = None
    factors: dict[str, list[FactorPoint]] = Field(default={}, description="scores on validation clips, by method")
    differences: list[StudyDifference] = Field(default=[])
    verdict: Judgement | None = None
    long_tail: LongTail | None = None
    cost: list[Cost] = Field(default=[])
    clip_sets: list[ClipSet] = Field(default=[])
    failures: list[PartFailure]
    stages: dict[str, float] | None = absent("seconds of each stage; this and the rest: on one machine only")
    machine: dict[str, Any] | None = absent("as in run.json")
    seconds_per_point: dict[str, float] | None = absent("own work for a point over gold, of methods with a gain")


class Point(Range):
    """Point of a learning curve."""

    n: int = Field(description="training clips")


class Ablation(Range):
    """Worth of a part in a cell: Synthio minus the method without the part."""

    dataset: str
    n: int
    without: str


class WinRate(Contract):
    """Differences of two methods over all cells."""

    method: str
    versus: str
    wins: int = Field(description="cells with a difference above 0")
    cells: int
    reliable: int = Field(description="cells with a difference reliably above 0")
    worse: int = Field(description="cells with one reliably below 0")
    datasets: int
    mean: float = Field(description="over datasets, each the mean of its cells")
    low: float | None = Field(description="null with a single dataset")
    high: float | None


class Correction(Contract):
    """Comparisons of all cells, corrected for their number (Holm)."""

    comparisons: int
    below: int = Field(description="with a corrected p below `level`")
    level: float


class Asked(Contract):
    """What a study was asked for, beside its cells."""

    preset: str
    seeds: int = Field(description="number of replicates")
    overrides: str


class Study(Asked):
    """All results of a study."""

    layout: Literal[1] = Field(
        default=1, validation_alias=AliasChoices("schema", "layout"), serialization_alias="schema"
    )
    state: Literal["complete", "incomplete"]
    methods: dict[str, str] = Field(description="titles")
    cells: list[StudyCell]
    correction: Correction
    win_rates: list[WinRate]
    ablations: list[Ablation]
    curves: dict[str, dict[str, list[Point]]] = Field(description="by dataset and method")
    learner_curves: dict[str, dict[str, list[Point]]] = Field(description="by dataset and learner, on real clips alone")
    failures: list[PartFailure] = Field(description="of all cells")
    estimate: Estimate
    seconds: float = Field(description="from the start of the study, waiting for nodes included")
    real: Real | None = absent("on one machine only")


class NightFigure(Range):
    """Headline figure of a method in a cell."""

    cell: str = Field(description="dataset and number of training clips")
    method: str
    title: str
    figure: Figure


class Night(Contract):
    """Record of one night."""

    run: str = Field(description="id of the run; recording it again replaces it")
    at: str = Field(description="when it was recorded: UTC, ISO 8601")
    code: str = Field(description="hash of all stages' sources")
    place: str = Field(description="what it ran on; times are compared within a place only")
    asked: Asked = Field(description="nights that asked alike are compared")
    state: Literal["good", "worse", "incomplete"]
    figures: tuple[NightFigure, ...]
    seconds: dict[str, float] = Field(description="of the whole study and of each cell, waiting for nodes included")
    findings: tuple[str, ...] = Field(default=(), description="what failed or got worse, a sentence each")
