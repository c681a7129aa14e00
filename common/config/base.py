"""Base classes and helpers of the configuration models."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

WIRE_NULL = "__null__"
"""Stand-in for null, which KFP cannot carry inside a dict; `to_wire` writes it, and `Frozen` reads it back."""


class Frozen(BaseModel):
    """Base of all configuration models: frozen, unknown fields are errors, defaults are validated."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _from_wire(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return {key: None if value == WIRE_NULL else value for key, value in values.items()}
        return values


SCOPE = r"^$|^[\w-]+(/[\w-]+)*$"
"""Pattern of a path below the store, such as `nights/4711`."""


class Plan(Frozen):
    """Base of the settings that `plan` passes to each stage."""

    scope: str = Field(default="", pattern=SCOPE, description="as in the run's configuration")


def to_wire(value: Any) -> Any:
    """Replace every null in JSON values by `WIRE_NULL`."""
    if value is None:
        return WIRE_NULL
    if isinstance(value, dict):
        return {key: to_wire(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_wire(item) for item in value]
    return value


class OptimConfig(Frozen):
    """AdamW with warm-up and a schedule."""

    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int = Field(default=0, ge=0)
    schedule: Literal["constant", "cosine", "inverse", "step"] = "cosine"
    inverse_gamma: float = Field(default=1e6, gt=0, description="InverseLR of stable-audio-tools")
    step_factor: float = Field(
        default=1.0, gt=0, le=1, description="schedule step: at step_from, and every step_every steps after it"
    )
    step_from: int = Field(default=0, ge=0)
    step_every: int = Field(default=1, gt=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.0, ge=0, lt=1, description="0 = no averaging")
    record_every: int = Field(default=25, gt=0, description="steps between rows of the curve")
    evaluate_every: int = Field(default=10**9, gt=0)
    checkpoint_every_s: float = Field(default=120.0, gt=0)
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="bf16: autocast, with weights, averages and optimizer state in fp32"
    )
    accumulation: int = Field(
        default=1, gt=0, description="micro-batches per step and process; batch_size is the batch of all together"
    )
    sharding: Literal["none", "fsdp"] = Field(
        default="none",
        description="several processes: each holds the whole state (DDP), or its share of it (FSDP, arXiv 2304.11277)",
    )

    @model_validator(mode="after")
    def _warmup_fits(self) -> OptimConfig:
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps ({self.warmup_steps}) must be below steps ({self.steps})")
        return self
