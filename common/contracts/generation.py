"""Accounts of how synthetic clips came about: captions, CLAP, alignment, filter."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field

from common.contracts.base import Contract, absent

Curve = list[dict[str, float | None]]
"""Rows of a training's figures by `step`."""


class Sum(Contract):
    """What adds up field by field: numbers, numbers by name; other things by name are joined."""

    def __add__(self, other: Self) -> Self:
        """Sum of both."""
        return self.model_copy(update={name: _added(mine, getattr(other, name)) for name, mine in self})


def _added(one: Any, other: Any) -> Any:
    if not isinstance(one, dict):
        return one + other
    added = {name: one[name] + other[name] for name in one.keys() & other.keys() if isinstance(one[name], int)}
    return dict(sorted((one | other | added).items()))


class Price(Sum):
    """Tokens and cost."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0


class Usage(Sum):
    """Requests, tokens and cost of writing."""

    requests: int = Field(default=0, description="sent, retries included")
    failed: dict[str, int] = Field(default_factory=dict, description="of those, without a usable reply, by reason code")
    cached: int = Field(default=0, description="answered from the request cache")
    paid: Price = Field(default=Price(), description="of the requests sent")
    replies: dict[str, Price] = Field(default_factory=dict, description="of each reply used, by its request's key")

    @property
    def whole(self) -> Price:
        """Price of all replies, each counted once, whoever paid; equal in a first run, a resumed one and a rerun."""
        return sum((price for _, price in sorted(self.replies.items())), start=Price())


class Tally(Sum):
    """Origin of the captions and elements of some tasks. An extraction counts as one piece."""

    pieces: int = 0
    repaired: int = Field(default=0, description="from the second reply")
    replaced: int = Field(default=0, description="written by the grammar, since no reply was usable")
    reasons: dict[str, int] = Field(default_factory=dict, description="refused, by reason code; every refusal counts")
    usage: Usage = Usage()

    def figures(self, now: Tally) -> dict[str, float | int]:
        """Figures for the run's page; `now` is the tally of this execution, empty if all captions were finished."""
        return {
            "repaired": self.repaired,
            "replaced": self.replaced,
            "refused": sum(self.reasons.values()),
            "input_tokens": self.usage.whole.input_tokens,
            "output_tokens": self.usage.whole.output_tokens,
            "cost": self.usage.whole.cost,
            "requests": now.usage.requests,
            "requests_failed": sum(now.usage.failed.values()),
            "requests_cached": now.usage.cached,
            "cost_paid": now.usage.paid.cost,
        }


class Diversity(Contract):
    """Diversity of captions; means over labels, pairwise ones over labels with two captions or more."""

    captions: int | float
    distinct_1: float = Field(description="distinct words over all words")
    distinct_2: float = Field(description="distinct pairs of words over all")
    unique_share: float = Field(description="distinct captions over all")
    label_recall: float = Field(description="share of captions with the whole label")
    self_bleu: float | None = absent("BLEU-4 against the label's other captions; 1 = all alike")
    word_spread: float | None = absent("mean Jaccard distance of the words of two captions; 0 = all alike")


class Source(Diversity):
    """Captions of one kind."""

    by_label: dict[str, Diversity]
    in_run: bool = Field(description="false: only written to compare with")


class SourceAccount(Source):
    """How they were written."""

    how: Tally


class WritingRound(Contract):
    """Captions of a round."""

    round: int
    prompts: int
    how: Tally


class CaptionAccount(Contract):
    """How the captions of all rounds were written."""

    writer: str
    sources: dict[str, SourceAccount]
    rounds: list[WritingRound]


class Finetuning(Contract):
    """CLAP of a replicate, judged on its validation clips."""

    kept: Literal["pretrained", "finetuned"]
    before: dict[str, float | None]
    after: dict[str, float | None]
    best_step: int | None = None
    curve: Curve


class Spectra(Contract):
    """Mean spectra, dB in each mel band."""

    gold: list[float]
    before: list[float]
    after: list[float]


class Aligned(Contract):
    """One aligned model, and how far from gold its clips are before and after."""

    before: dict[str, float]
    after: dict[str, float]
    best_step: int = Field(description="whose weights were kept; 0 = the unaligned ones")
    stopped_by: str = Field(description="figure that ended training early, or empty")
    note: str


class Alignment(Aligned):
    """All figures of one."""

    curve: Curve
    during: list[dict[str, float]] = Field(description="figures of all probes; the first is the unaligned model")
    keep_best_by: str = Field(description="figure that decided")
    pairs: int
    silent_losers: int
    silent_winners: list[str] = Field(description="clip ids")
    loss: str
    beta: float
    adapter: str
    spectra_db: Spectra
    probes: int = Field(description="clips that figures were measured on")
    held_out_clips: int
    learner_loss_of_gold: float | None = absent("loss of a learner that gets gold alone, on validation clips")
    tried: dict[str, float] | None = absent("deciding figure of each loss")


class AlignAccount(Contract):
    """Aligned models, by `<replicate>/<alignment>`."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Alignment]

    failures: dict[str, str] = Field(description="errors, by the same names")

    @property
    def models(self) -> dict[str, Alignment]:
        """By `<replicate>/<alignment>`."""
        return self.__pydantic_extra__


class Bounds(Contract):
    """Lower bounds that a clip must reach; null = no bound."""

    kind: str
    min_score: float | None = None
    min_margin: float | None = None


class FilterFigures(Contract):
    """The filter of a replicate; trials tell recall, wrong_kept and precision, and are empty where there was none."""

    threshold: Bounds
    gold_scores: list[float] = Field(description="CLAP scores of gold validation clips")
    gold_margins: list[float]
    planted: dict[str, float] = Field(description="trial on right and wrong claims of gold clips")
    second_planted: dict[str, float] = Field(description="trial of the second judge")
    kernel_distance: dict[str, dict[str, float]] = Field(description="to gold, of candidates and accepted, by recipe")


class Candidate(Contract):
    """A generated clip and what the filter says of it."""

    clip_id: str
    round: int
    seed: int = Field(description="the replicate")
    recipe: str
    label: str
    caption: str
    score: float | None = Field(description="cosine with the label; null where signal checks failed")
    margin: float | None = Field(description="score minus that of the best other label")
    nearest_similarity: float | None = Field(description="to the nearest gold clip")
    reason: str | None = Field(description="why it was rejected; null = accepted")
    second_probability: float | None = absent("of its label, by the second judge")
    second_passes: bool | None = absent()
    further_labels: list[str] | None = absent()


class Counts(Contract):
    """Clips that the filter accepted and rejected."""

    accepted: int
    rejected: int


class Judged(Contract):
    """Clips that both judges heard, and those that CLAP alone, the second one alone, or both rejected."""

    clips: int
    clap: int
    second: int
    both: int


class FilterRound(Counts):
    """Clips of one round."""

    round: int
    by_recipe: dict[str, Counts]
    reasons: dict[str, int]
    judged: Judged | None = absent()


class EmptyClass(Contract):
    """A class without an accepted clip."""

    seed: int = Field(description="the replicate")
    recipe: str
    label: str


class FilterAccount(Contract):
    """The filter in all rounds."""

    rounds: list[FilterRound]
    thresholds: dict[int, FilterFigures] = Field(description="by replicate")
    candidates: list[Candidate]
    empty_classes: list[EmptyClass]
