"""The artifact `classifiers` beside its models: how each was trained, chosen and calibrated. Figures are shares."""

from typing import Any

from pydantic import ConfigDict, Field

from common.contracts.base import Contract, absent

Strength = float | str
"""Strength of a classic augmentation, in the unit of its settings; for `audiomentations` the name of a combination."""


class Failure(Contract):
    """A part of a run that failed; the others went on."""

    method: str = Field(description="method, or learner and method, or what else failed")
    seed: int = Field(description="the replicate")
    error: str
    classic: str | None = absent("classic augmentation of the training")
    strength: Strength | None = absent()
    factor: int | None = absent("synthetic clips for each gold clip")


class OnValidation(Contract):
    """Figures on the validation clips of the replicate."""

    val_accuracy: float | None = absent()
    val_map: float | None = absent("mean average precision, where clips have several labels")
    val_macro_f1: float | None = absent()
    val_loss: float | None = absent("cross-entropy")

    def figure(self, by: str) -> float:
        """`accuracy`, `macro_f1` or `map`."""
        return float(getattr(self, f"val_{by}"))


class Tried(OnValidation):
    """One of the settings that validation chose among."""

    classic: str
    strength: Strength | None
    factor: int | None
    best_step: float | None = absent()


class Slot(Contract):
    """What stood in the synthetic half of all batches, in examples."""

    synthetic: int
    gold: int


class Training(OnValidation):
    """Training of an AST."""

    steps: int
    examples: int
    classic: str = Field(description="classic augmentation of all examples")
    strength: Strength | None
    gold_clips: int
    synthetic_clips: int
    slot: Slot
    gold_stands_in_for: list[str] = Field(description="labels without synthetic clips")
    curve: list[dict[str, float | None]] = Field(description="rows by step: loss, grad_norm, figures on validation")
    best_step: float | None = absent("whose weights were kept; absent without validation clips")


class Chosen(Training):
    """The training that validation chose for a method and replicate."""

    factor: int | None = Field(description="synthetic clips for each gold clip; null without")
    tried: list[Tried]


class Selection(Contract):
    """The chosen trainings of AST, by `<method>/<replicate>`."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Chosen]

    select_by: str = Field(description="figure on validation that decided: accuracy, macro_f1 or map")
    best_classic: dict[int, str] = Field(description="classic augmentation that did best on gold alone, by replicate")
    oracle: Training | None = absent()

    @property
    def chosen(self) -> dict[str, Chosen]:
        """By `<method>/<replicate>`."""
        return self.__pydantic_extra__


class Losses(Contract):
    """Cross-entropy of calibrated probabilities."""

    calibrated_loss: float = Field(description="on the validation clips")
    judged_loss: float | None = Field(description="on clips that its own splits left out; null = it has none")


class Member(Contract):
    """A learner of a blend."""

    learner: str
    temperature: float
    weight: float = Field(1.0, description="its share in the mean, relative to the others'")


class WithThreshold(Losses):
    """Losses of a model or a blend, and from where on it says that a label is heard."""

    threshold: float | None = absent("probability from which a label counts as heard, where clips have several")


class Blend(WithThreshold, OnValidation):
    """Figures of a blend."""

    members: list[Member]


class Calibrated(WithThreshold):
    """Figures of a model with its temperature; all that learners.json says of AST."""

    temperature: float
    weight: float = Field(description="in a blend: the inverse of the loss on the clips that judge it")


class Trial(Contract):
    """A setting of a learner, and what its splits say of it."""

    option: Any = Field(description="of the learner, such as a penalty")
    weight: float = Field(description="of further clips")
    strength: Strength | None = Field(description="of a classic augmentation")
    loss: float
    score: float
    temperature: float


class Fit(OnValidation):
    """Fit of a learner to frozen features."""

    chosen: Trial
    tried: list[Trial]
    further_clips: int


class Fitted(Calibrated, Fit):
    """Figures of a learner that was fitted to frozen features."""


class ProbeFirst(Calibrated, Training):
    """Figures of an AST trained from a fitted head."""


Learners = dict[str, Blend | Fitted | ProbeFirst | Calibrated]
"""Figures by `<learner>/<method>/<replicate>`."""

Seconds = dict[str, dict[str, float]]
"""Mean seconds of a training, by learner and method."""


class DeliveredModel(Contract):
    """The learner and method that are delivered, trained again."""

    learner: str
    method: str
    members: list[str] = Field(description="learners of a blend")
    clips: int = Field(description="labelled clips that it was trained on: all outside the test split")


class Delivery(Losses, DeliveredModel):
    """How it was chosen; losses are means of its replicates."""

    failures: list[Failure] = Field(description="of better pairs, and of trainings of this one")
