"""Settings of `train_classifier`; published trainings of the classifier."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, create_model, model_validator

from common.config.augmentations import AUGMENTATIONS
from common.config.base import (
    Count,
    Frozen,
    Natural,
    NonNegative,
    OptimConfig,
    PartialShare,
    Plan,
    Positive,
    PositiveShare,
)
from common.config.clap import Keep
from common.config.classifier import RecordingConfig, SpecAugmentConfig
from common.config.learners import LearnersConfig
from common.config.methods import Method


class EpochRecipe(Frozen):
    """A published training of the classifier, in epochs over gold and synthetic clips."""

    batch_size: Count
    epochs: Count
    learning_rate: Positive
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: NonNegative = 0.0
    decay: PositiveShare = Field(1.0, description="of the learning rate, from an epoch on at each epoch")
    decay_from_epoch: Natural = 0

    def optim(self, clips: int, base: OptimConfig) -> OptimConfig:
        """Convert the recipe to steps, with one evaluation per epoch.

        `base` has what the recipe leaves open: precision, clipping, checkpoints.
        """
        each = -(-clips // self.batch_size)
        return base.model_copy(
            update={
                "steps": self.epochs * each,
                "batch_size": self.batch_size,
                "learning_rate": self.learning_rate,
                "betas": self.betas,
                "weight_decay": self.weight_decay,
                "warmup_steps": 0,
                "schedule": "constant" if self.decay == 1 else "step",
                "step_factor": self.decay,
                "step_from": self.decay_from_epoch * each,
                "step_every": each,
                "record_every": each,
                "evaluate_every": each,
            }
        )


RECIPES: dict[str, EpochRecipe] = {
    # All that the paper states.
    "paper": EpochRecipe(batch_size=24, epochs=50, learning_rate=1e-4),
    # Sreyan88/Synthio, 2025-03-31; its Adam couples the weight decay, which at 5e-7 makes no difference.
    "official": EpochRecipe(
        batch_size=48,
        epochs=50,
        learning_rate=1e-5,
        betas=(0.95, 0.999),
        weight_decay=5e-7,
        decay=0.85,
        decay_from_epoch=5,
    ),
}


class ContrastiveConfig(Frozen):
    """Supervised contrastive training of the body, before the head's (arXiv 2004.11362; option of official code)."""

    optim: OptimConfig = Field(
        OptimConfig(steps=2000, batch_size=96, learning_rate=1e-4, warmup_steps=100),
        description="official code: 24 clips of 4 views, 100 epochs (of 500 clips: 2084 steps); rate: ours",
    )
    views: Count = Field(4, description="of a clip: itself, and synthetic clips made from it; official code: 4")
    temperature: Positive = Field(0.1, description="official code and arXiv 2004.11362")
    hidden_size: Count = Field(4096, description="of the projection; official code")
    dimensions: Count = Field(256, description="of the projection; official code")
    mask_share: PartialShare = Field(0.15, description="under SpecAugment's one mask; official code: 0.19, 0.09")

    @model_validator(mode="after")
    def _whole_clips(self) -> Self:
        if self.optim.batch_size % self.views or self.optim.accumulation > 1:
            raise ValueError(
                f"optim.batch_size ({self.optim.batch_size}) must be a multiple of views ({self.views}) and "
                f"optim.accumulation ({self.optim.accumulation}) 1: the loss compares all examples of a batch"
            )
        return self


_sections: Any = {name: (kind, kind()) for name, kind in AUGMENTATIONS.items()}
_Augmentations = create_model("_Augmentations", __base__=Frozen, **_sections)


class TrainClassifierConfig(_Augmentations):
    """One recipe for every method; methods differ only in the clips of the synthetic slot and in augmentation."""

    optim: OptimConfig = Field(
        OptimConfig(
            steps=3000,
            batch_size=24,
            learning_rate=1e-4,
            warmup_steps=100,
            record_every=50,
            evaluate_every=150,
            precision="bf16",
        ),
        description="official code; paper: lr 1e-4, batch 24, 50 epochs; in steps: one budget for all methods",
    )
    recipe: Literal["paper", "official"] | None = Field(None, description="RECIPES, in place of optim's budget")
    oracle_steps: Count = Field(6000, description="of the oracle, also where a recipe has epochs; ours")
    window: Literal["clips", "model"] = Field("clips", description="that AST sees: as nine of ten clips, or all")
    synthetic_fraction: float = Field(0.5, gt=0, lt=1, description="share of a batch in the synthetic slot; ours")
    recording: RecordingConfig = RecordingConfig()
    learners: LearnersConfig = LearnersConfig()
    select_by: Literal["accuracy", "macro_f1", "map"] | None = Field(None, description="null = accuracy, or map")
    mixup_alpha: NonNegative = Field(0.0, description="mixup for all methods (arXiv 1710.09412: 0.1 to 0.4); 0 = none")
    contrastive: ContrastiveConfig | None = Field(None, description="null = none, as in the paper")
    specaugment: SpecAugmentConfig = SpecAugmentConfig()

    @model_validator(mode="after")
    def _selection_possible(self) -> Self:
        if self.optim.evaluate_every % self.optim.record_every:
            raise ValueError(
                f"optim.evaluate_every ({self.optim.evaluate_every}) must be a multiple of "
                f"optim.record_every ({self.optim.record_every})"
            )
        batch_size = RECIPES[self.recipe].batch_size if self.recipe else self.optim.batch_size
        slot = round(batch_size * self.synthetic_fraction)
        if not 0 < slot < batch_size:
            raise ValueError(
                f"a batch of {batch_size} cannot be divided at synthetic_fraction "
                f"{self.synthetic_fraction}; raise optim.batch_size"
            )
        if self.oracle_steps <= self.optim.warmup_steps:
            raise ValueError(
                f"oracle_steps ({self.oracle_steps}) must exceed optim.warmup_steps ({self.optim.warmup_steps})"
            )
        return self

    def optim_for(self, clips: int, steps: int) -> OptimConfig:
        """Optimiser settings of a training: `steps` long, or with a `recipe` in epochs of so many `clips`."""
        if self.recipe:
            return RECIPES[self.recipe].optim(clips, self.optim)
        return self.optim.model_copy(update={"steps": steps})


class TrainClassifierPlan(Plan):
    """Input of `train_classifier`."""

    settings: TrainClassifierConfig
    replicates: tuple[int, ...] = Field(min_length=1)
    methods: dict[str, Method] = Field(min_length=1)
    augmentation_factors: tuple[Annotated[int, Field(ge=1, le=20)], ...] = Field(
        min_length=1, description="synthetic clips per gold clip; validation chooses among several"
    )
    rounds: Natural
    keep: Keep | None = Field(None, description="of a surplus of filtered clips; null = there is none")
