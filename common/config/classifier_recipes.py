"""Published classifier trainings: whole recipes, and contrastive pre-training."""

from __future__ import annotations

from pydantic import Field, model_validator

from common.config.base import Frozen, OptimConfig


class EpochRecipe(Frozen):
    """A published training of the classifier, in epochs over gold and synthetic clips."""

    batch_size: int = Field(gt=0)
    epochs: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(default=0.0, ge=0)
    decay: float = Field(default=1.0, gt=0, le=1, description="of the learning rate, from an epoch on at each epoch")
    decay_from_epoch: int = Field(default=0, ge=0)

    def optim(self, clips: int, base: OptimConfig) -> OptimConfig:
        """Convert the recipe to steps, with one evaluation per epoch.

        Args:
            clips: gold and synthetic clips per epoch.
            base: settings that the recipe leaves open: precision, clipping, checkpoints.
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
        default=OptimConfig(steps=2000, batch_size=96, learning_rate=1e-4, warmup_steps=100),
        description="official code: 24 clips of 4 views, 100 epochs (of 500 clips: 2084 steps); rate: ours",
    )
    views: int = Field(
        default=4,
        ge=1,
        description="of each clip in a batch: itself, then synthetic clips made from it, or itself where none are; "
        "official code: 4 synthetic ones",
    )
    temperature: float = Field(default=0.1, gt=0, description="official code and arXiv 2004.11362")
    hidden_size: int = Field(default=4096, gt=0, description="of the projection; official code")
    dimensions: int = Field(default=256, gt=0, description="of the projection; official code")
    mask_share: float = Field(
        default=0.15,
        ge=0,
        lt=1,
        description="largest share of mel bins and of frames under SpecAugment's one mask; "
        "official code: 24 of 128 bins, 96 of 1024 frames",
    )

    @model_validator(mode="after")
    def _whole_clips(self) -> ContrastiveConfig:
        if self.optim.batch_size % self.views or self.optim.accumulation > 1:
            raise ValueError(
                f"optim.batch_size ({self.optim.batch_size}) must be a multiple of views ({self.views}) and "
                f"optim.accumulation ({self.optim.accumulation}) 1: the loss compares all examples of a batch"
            )
        return self
