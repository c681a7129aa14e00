"""The artifact `results`: report.json, all figures of a run, without times. Figures are shares in [0, 1]."""

from typing import Literal

from pydantic import Field

from common.contracts.base import Contract, absent
from common.contracts.evaluation import Checked, ClassicFigures, Compared, Figures, Interval, Range, ZeroShotFigures
from common.contracts.generation import Aligned, Diversity, EmptyClass, FilterRound, Source
from common.contracts.gold import Dataset
from common.contracts.training import DeliveredModel, Failure


class Judgement(Contract):
    """Whether synthetic audio helped; null = not measured."""

    improved: bool | None
    beats_classic: bool | None = Field(description="joined with the best classic augmentation, against that alone")
    state: Literal["improved", "worse", "unclear", "none"]
    text: str


class Verdict(Judgement):
    """The judgement of a run."""

    cautions: list[str] = Field(description="sentences")


class MethodFigures(Figures):
    """Figures of AST on a method's clips."""

    title: str
    seeds: list[int]
    recall: dict[str, float | None] | None = absent("by label")
    average_precision: dict[str, float | None] | None = absent("by label, where clips have several")


class Delivered(DeliveredModel):
    """The delivered classifier on the test clips."""

    test_accuracy: float | None = absent()
    test_map: float | None = absent()
    interval: Interval
    ece: float


class ClassCounts(Contract):
    """Clips of a class."""

    train: int
    val: int
    test: int


class Data(Contract):
    """Clips of the first replicate, and what was left out."""

    n_train: int
    n_val: int
    n_test: int
    dropped: int
    dropped_reasons: dict[str, int]
    classes: dict[str, ClassCounts]
    oracle_pool: int = Field(description="clips that the oracle is trained on")
    fixed_gold_set: bool = Field(description="whether all replicates have the same clips")
    test_groups: int
    warnings: list[str]


class SourceWriting(Source):
    """Captions of one kind, and how they were written."""

    pieces: int
    repaired: int
    replaced: int


class RoundWriting(Contract):
    """Captions of a round."""

    round: int
    prompts: int
    replaced: int


class Writing(Contract):
    """How the captions of all rounds were written; tokens and money are those of all replies, whoever paid."""

    writer: str
    sources: dict[str, SourceWriting]
    pieces: int
    repaired: int
    replaced: int
    reasons: dict[str, int]
    input_tokens: int
    output_tokens: int
    cost: float
    rounds: list[RoundWriting]


class Likeness(Contract):
    """Similarity of a recipe's clips to their nearest gold clip, by cosine of CLAP embeddings."""

    clips: int
    near_copies: int
    median: float | None = absent("of those accepted")
    highest: float | None = absent("of those accepted")


class AcousticSet(Contract):
    """Acoustic statistics of a set of clips beside those of gold training clips."""

    clips: int
    shift: float = Field(description="mean over statistics of the absolute difference, in standard deviations")
    ks: float = Field(description="mean over statistics of the Kolmogorov-Smirnov distance")
    statistics: dict[str, dict[str, float]] = Field(description="real and mean, shift, ks, by statistic")


class Acoustics(Contract):
    """Acoustic consistency of generated and real clips."""

    real_clips: int
    sets: dict[str, AcousticSet]


class Cost(Range):
    """Gain of a method over gold, and the stages that it needs."""

    name: str
    title: str
    reliable: bool = Field(description="whether the gain is reliably above 0")
    stages: list[str] = Field(description="beyond pretraining and training; `*` includes repeats")


class FactorPoint(Contract):
    """Mean validation score with so many synthetic clips for each real one."""

    factor: int
    mean: float
    per_seed: list[float]


class Factors(Contract):
    """Validation score by augmentation factor, of methods that tried several."""

    by: str
    split: Literal["validation"]
    methods: dict[str, list[FactorPoint]]


class TailClass(Range):
    """Gain of a class."""

    label: str
    train: int = Field(description="clips")
    test: int = Field(description="clips")


class Third(Contract):
    """Mean gain of a third of the classes."""

    name: str
    classes: int
    fewest: int = Field(description="training clips of a class")
    most: int
    mean: float


class LongTail(Contract):
    """Gain of each class, rarest in training first."""

    method: str
    versus: str
    balanced: bool = Field(description="all classes have equally many clips: there is no tail")
    classes: list[TailClass]
    thirds: list[Third] = Field(description="none when balanced or with fewer than six classes")


class Report(Compared, Checked):
    """All results of a run."""

    dataset: Dataset
    verdict: Verdict
    methods: dict[str, MethodFigures]
    best_classic: ClassicFigures | None
    zero_shot: ZeroShotFigures
    delivered: Delivered
    rounds: list[FilterRound]
    data: Data
    failures: list[Failure]
    alignment: dict[str, Aligned] = Field(description="by <replicate>/<alignment>")
    captions: dict[str, Diversity] = Field(description="by set of clips")
    writing: Writing
    likeness: dict[str, Likeness] = Field(description="by recipe")
    empty_classes: list[EmptyClass]
    provenance: dict[str, str | list[int]] = Field(description="command, preset, seeds, hashes")
    acoustics: Acoustics
    cost: list[Cost]
    factors: Factors
    long_tail: LongTail | None
