"""The artifact `evaluation`: figures of all classifiers on the test split. Figures are shares in [0, 1]."""

from typing import Literal

from pydantic import AliasChoices, Field

from common.contracts.base import Contract, absent
from common.contracts.gold import HeldOutHealth
from common.contracts.training import DeliveredModel, Failure

Figure = Literal["accuracy", "map"]
"""Figure by which methods are compared: `map`, mean average precision, where clips have several labels."""


class Range(Contract):
    """A mean with its interval."""

    mean: float
    low: float
    high: float


class Interval(Range):
    """A mean over replicates."""

    per_seed: list[float] = Field(description="of each replicate")


class Calibration(Contract):
    """Expected calibration error."""

    mean: float
    per_seed: list[float]


class Headline(Contract):
    """The figure of the run: one of both."""

    accuracy: Interval | None = absent()
    map: Interval | None = absent("mean average precision, where clips have several labels")

    @property
    def score(self) -> Interval:
        """The one that there is."""
        found = self.accuracy or self.map
        assert found is not None
        return found


class Figures(Headline):
    """Figures of a method, learner or model."""

    macro_f1: Interval
    ece: Calibration


class Scores(Figures):
    """All figures of one."""

    confusion: list[list[int]] | None = Field(
        description="rows = truth, summed over replicates; null with several labels"
    )
    recall: list[float | None] | None = Field(description="by label, null without test clips")
    average_precision: list[float | None] | None = absent("by label, where clips have several")
    thresholds: list[float] | None = absent("probability from which a label counts as heard in macro_f1, by replicate")


class MethodScores(Scores):
    """Figures of AST on a method's clips."""

    title: str
    seeds: list[int] = Field(description="replicates that finished")


class ClassicFigures(Figures):
    """Figures of the classic augmentation that validation chose in each replicate."""

    chosen: dict[int, str] = Field(description="method by replicate")
    seeds: list[int]


class ClassicScores(ClassicFigures, Scores):
    """All of them."""


class ZeroShotFigures(Figures):
    """Figures of the CLAP that was not trained on the dataset."""

    title: str


class ZeroShotScores(ZeroShotFigures, Scores):
    """All of them."""


class DeliveredScores(Scores, DeliveredModel):
    """The delivered classifier and its figures."""

    threshold: float | None = absent("probability from which a label counts as heard, where clips have several")


class LearnerScore(Headline):
    """Figure of a learner on a method's clips."""

    seeds: list[int]


class Pair(Contract):
    """A learner and a method."""

    learner: str
    method: str


class Best(Pair, Headline):
    """What validation chose: the pair most often chosen, and the figure of all that were."""

    chosen: dict[int, Pair] = Field(description="by replicate")


class Paired(Interval):
    """A paired difference of the headline figure on the same clips and replicates."""

    p: float = Field(description="two-sided")
    win_rate: float = Field(description="share of replicates above 0; a tie counts half")
    macro_f1: Interval


class Difference(Paired):
    """A paired difference with its replicates."""

    seeds: list[int]


class MethodDifference(Difference):
    """Difference of two methods, the first minus the second."""

    method: str
    versus: str
    p_holm: float | None = absent("corrected for the number of comparisons with gold")


class Bests(Contract):
    """What validation chose among all learners and methods, on the run's own clips alone and with synthetic audio."""

    without: Best | None
    synthetic: Best | None = Field(validation_alias=AliasChoices("with", "synthetic"), serialization_alias="with")
    difference: Difference | None = Field(description="with synthetic audio minus without")
    control: Best | None = absent("with clips of the pretraining corpus as they are")
    control_difference: Difference | None = absent("with synthetic audio minus the control")


class Gain(Interval):
    """Paired difference of a label's recall, or of its average precision."""

    label: str
    label_id: int
    clips: int = Field(description="of the test split")
    first: float
    second: float


class ClassGains(Contract):
    """Gain of each label with test clips."""

    method: str
    versus: str
    classes: list[Gain]


class HeldOut(Contract):
    """The test split."""

    clips: int
    groups: int
    per_class: dict[str, int]


class Heard(Contract):
    """Share of generated clips in which the oracle hears what was asked for."""

    clips: int
    accuracy: float
    per_class: dict[str, float]


class Oracle(Contract):
    """The classifier trained on labelled clips outside the test split and the first replicate's validation clips."""

    test_accuracy: float | None = absent()
    test_map: float | None = absent()
    trained_on: int = Field(description="clips")
    sets: dict[str, Heard] = Field(description="by set of generated clips")


class Distance(Contract):
    """Distances of CLAP embeddings to those of the gold training clips."""

    frechet: float
    kernel: float


class HeldOutDistance(Contract):
    """Distance of gold clips that no replicate trains on, to compare with."""

    clips: int
    kernel: float


class Distances(Contract):
    """Distances of generated clips to real ones, each set of equally many clips."""

    gold_clips: int
    clips: int = Field(description="of each set")
    held_out: HeldOutDistance | None
    sets: dict[str, Distance]


class LeakCounts(Contract):
    """Pairs of a test clip and a clip of a set."""

    clips: int = Field(description="of the set")
    exact: int = Field(description="pairs of equal samples")
    near: int = Field(description="other pairs that waveforms confirm")
    checked: int = Field(description="pairs with like embeddings")


class Leak(Contract):
    """A test clip that is also in a set that training saw."""

    test: str
    set: str
    clip: str
    kind: Literal["exact", "near"]
    cosine: float = Field(description="of the embeddings")
    correlation: float = Field(description="of the waveforms")


COPIES = "copies.json"
"""File of `CorpusCopies` in the artifact `retrieved`; it is there where something was left out."""


class CorpusCopy(Contract):
    """A recording of the corpus that is also a gold clip."""

    clip: str = Field(description="its key in the corpus")
    source: str = Field(description="file of the gold clip")
    validation: bool = Field(description="whether any replicate validates on that clip")
    correlation: float = Field(description="of the waveforms")


class CorpusCopies(Contract):
    """Recordings of the corpus that no method takes, since they are training or validation clips."""

    recordings: int
    validation: int = Field(description="those that are validation clips in any replicate")
    pairs: list[CorpusCopy] = Field(description="the first ones")


class Leaks(Contract):
    """Test clips among the clips that training, alignment or generation used or made."""

    sets: dict[str, LeakCounts]
    pairs: list[Leak] = Field(description="the first ones")
    test_clips: int = Field(description="those in a pair")
    test: int = Field(description="all test clips")
    shared_groups: list[str] = Field(description="groups with test and gold clips")
    corpus_copies: CorpusCopies | None = absent("left out of what methods take from the corpus")


class Compared(Contract):
    """What report.json takes over of a comparison."""

    figure: Figure
    differences: list[MethodDifference] = Field(description="those of the verdict first")
    learners: dict[str, dict[str, LearnerScore]] = Field(description="by learner and method")
    best: Bests


class Comparison(Compared):
    """Figures of all methods and learners, and their differences."""

    methods: dict[str, MethodScores]
    best_classic: ClassicScores | None
    zero_shot: ZeroShotScores
    per_class: ClassGains | None = Field(description="of the first difference")
    resampled: Literal["clips", "groups"] = Field(description="what the bootstrap draws")
    resamples: int = Field(description="its draws")


class Checked(Contract):
    """What else report.json takes over."""

    oracle: Oracle | None
    distances: Distances
    leaks: Leaks


class Evaluation(Comparison, Checked):
    """Figures of all classifiers on the test split, and what they are worth."""

    labels: list[str] = Field(description="by label id")
    n_train: int = Field(description="training clips of the first replicate")
    confidence: float = Field(description="level of the intervals, such as 0.95")
    delivered: DeliveredScores
    test: HeldOut
    failures: list[Failure]
    heard: list[str] = Field(description="sentences: published models that may have heard the test clips")
    test_health: HeldOutHealth
