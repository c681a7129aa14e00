"""Kinds of GPUs for estimates, from the table `costs.yaml`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from common.config.base import Frozen
from common.errors import unknown_name

SHARE_OF_PEAK = 0.35
"""Assumed; training and sampling of transformers reach 0.3 to 0.5 on these GPUs."""
SHARE_OF_BANDWIDTH = 0.5
FP32 = 1 / 16
"""Speed of fp32 against bf16."""


class GPU(Frozen):
    """A kind of GPU.

    Attributes:
        tflops: dense bf16 TFLOP/s.
        price: assumed US dollars an hour.
    """

    tflops: float
    memory_gb: int
    gb_s: float
    price: float

    def compute_s(self, operations: float, precision: str = "bf16") -> float:
        """Seconds of operations."""
        return operations / (1e12 * self.tflops * SHARE_OF_PEAK * (1.0 if precision == "bf16" else FP32))

    def answers_s(self, count: float, parameters: float, read: int, written: int, batch_size: int) -> float:
        """Seconds of `count` answers of a language model in bf16; `read` and `written` are tokens of each."""
        each_token = 2 * parameters / (1e9 * self.gb_s * SHARE_OF_BANDWIDTH)
        return count * (self.compute_s(2 * parameters * read) + written * each_token / batch_size)


@cache
def table() -> dict[str, Any]:
    """Content of `costs.yaml`."""
    rows: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "costs.yaml").read_text(encoding="utf-8"))
    return rows


@cache
def gpu_table() -> dict[str, GPU]:
    """Kinds of GPUs by name; the first is that of estimates which name none."""
    return {name: GPU.model_validate(row) for name, row in table()["gpus"].items()}


def find_gpu(name: str) -> tuple[str, GPU]:
    """Name and figures of a GPU in the table, whatever the case; "" = the first.

    Raises ConfigError: the table has no such GPU.
    """
    known = gpu_table()
    for each, gpu in known.items():
        if each.lower() == (name or next(iter(known))).lower():
            return each, gpu
    raise unknown_name("GPU", name, known)
