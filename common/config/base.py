"""Base classes and helpers of the configuration models."""

from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from common.storage.hashing import changed

WIRE_NULL = "__null__"
"""Stand-in for null, which KFP cannot carry inside a dict; `to_wire` writes it, and `Frozen` reads it back."""

Count = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
PartialShare = Annotated[float, Field(ge=0, lt=1)]


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

    scope: str = Field("", pattern=SCOPE, description="as in the run's configuration")


class _OnceLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        for place, (key, _) in enumerate(node.value):
            if key.value in names[:place]:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """Values of a user's YAML. Raises yaml.YAMLError: a fault, such as a key that stands twice."""
    return _OnceLoader(text).get_single_data()


def to_wire(value: Any) -> Any:
    """Replace every null in JSON values by `WIRE_NULL`."""
    return changed(value, lambda one: WIRE_NULL if one is None else one)


class OptimConfig(Frozen):
    """AdamW with warm-up and a schedule."""

    steps: Count
    batch_size: Count
    learning_rate: Positive
    weight_decay: NonNegative = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: Natural = 0
    schedule: Literal["constant", "cosine", "inverse", "step"] = "cosine"
    inverse_gamma: Positive = Field(1e6, description="InverseLR of stable-audio-tools")
    step_factor: PositiveShare = Field(1.0, description="schedule step: at step_from, and every step_every on")
    step_from: Natural = 0
    step_every: Count = 1
    max_grad_norm: Positive = 1.0
    ema_decay: PartialShare = Field(0.0, description="0 = no averaging")
    record_every: Count = Field(25, description="steps between rows of the curve")
    evaluate_every: Count = 10**9
    checkpoint_every_s: Positive = 120.0
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16: autocast; weights, optimizer state in fp32")
    accumulation: Count = Field(1, description="micro-batches per step and process; batch_size is that of all together")
    sharding: Literal["none", "fsdp"] = Field("none", description="several processes: DDP or FSDP (arXiv 2304.11277)")

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps ({self.warmup_steps}) must be below steps ({self.steps})")
        return self
