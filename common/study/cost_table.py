"""The table `costs.yaml`: what stages take, and kinds of GPUs. It knows no method, so no stage that reads it does."""

from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from common.config.base import Frozen
from common.errors import unknown_name

SHARE_OF_PEAK = 0.35
"""Assumed; training and sampling of transformers reach 0.3 to 0.5 on these GPUs."""
SHARE_OF_BANDWIDTH = 0.5
FP32 = 1 / 16
"""Speed of fp32 against bf16."""


class GPU(Frozen):
    """A kind of GPU."""

    tflops: float
    """Dense bf16 TFLOP/s."""
    memory_gb: int
    gb_s: float
    price: float
    """Assumed US dollars an hour."""

    def compute_s(self, operations: float, precision: str = "bf16") -> float:
        """Seconds of operations."""
        return operations / (1e12 * self.tflops * SHARE_OF_PEAK * (1.0 if precision == "bf16" else FP32))

    def answers_s(self, count: float, parameters: float, read: int, written: int, batch_size: int) -> float:
        """Seconds of `count` answers of a language model in bf16; `read` and `written` are tokens of each."""
        each_token = 2 * parameters / (1e9 * self.gb_s * SHARE_OF_BANDWIDTH)
        return count * (self.compute_s(2 * parameters * read) + written * each_token / batch_size)


class StageCost(Frozen):
    """Seconds of one stage; the terms add up."""

    once: float = Field(default=0, ge=0, description="per study")
    cell: float = Field(default=0, ge=0)
    replicate: float = Field(default=0, ge=0, description="per cell and replicate")
    clip: float = Field(default=0, ge=0, description="per cell, replicate and training clip")
    alignment: float = Field(default=0, ge=0)
    generated: float = Field(default=0, ge=0, description="per clip that is generated at most")
    trained: float = Field(default=0, ge=0, description="per classifier, the oracle too")


class PresetCost(Frozen):
    """Costs of one preset; see the head of `costs.yaml`."""

    unit: Literal["cpu", "gpu"]
    source: str
    price_per_hour: float = Field(default=0, ge=0, description="US dollars, of a CPU machine")
    gb_once: float = Field(ge=0)
    mb_clip: float = Field(ge=0)
    memory_gb: float | None = Field(default=None, description="peak of the largest process")
    stages: dict[str, StageCost]


class Costs(Frozen):
    """Content of `costs.yaml`."""

    gpus: dict[str, GPU] = Field(description="the first is that of estimates which name none")
    presets: dict[str, PresetCost]


@cache
def costs() -> Costs:
    """Known costs."""
    return Costs.model_validate(yaml.safe_load((Path(__file__).parent / "costs.yaml").read_text(encoding="utf-8")))


def find_gpu(name: str) -> tuple[str, GPU]:
    """Name and figures of a GPU in the table, whatever the case; "" = the first.

    Raises ConfigError: the table has no such GPU.
    """
    known = costs().gpus
    for each, gpu in known.items():
        if each.lower() == (name or next(iter(known))).lower():
            return each, gpu
    raise unknown_name("GPU", name, known)
