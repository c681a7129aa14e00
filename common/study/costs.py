"""Cost estimate of a study: items, hours, storage, money; from the table `costs.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from common.config.base import Frozen
from common.errors import ConfigError

TABLE = Path(__file__).parent / "costs.yaml"


class StageCost(Frozen):
    """Seconds of one stage; the terms add up."""

    once: float = Field(default=0, ge=0, description="per study")
    cell: float = Field(default=0, ge=0)
    replicate: float = Field(default=0, ge=0, description="per cell and replicate")
    clip: float = Field(default=0, ge=0, description="per cell, replicate and training clip")
    method_clip: float = Field(default=0, ge=0, description="per cell, replicate, training clip and method")


class PresetCost(Frozen):
    """Costs of one preset; see the head of `costs.yaml`."""

    unit: Literal["cpu", "gpu"]
    source: str
    price_per_hour: float = Field(ge=0, description="US dollars")
    gb_once: float = Field(ge=0)
    mb_clip: float = Field(ge=0)
    stages: dict[str, StageCost]


@cache
def cost_table() -> dict[str, PresetCost]:
    """Costs by preset."""
    rows = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return {name: PresetCost.model_validate(row) for name, row in rows.items()}


def estimate(clips: Sequence[int], preset: str, methods: int, seeds: int, price: float = 0.0) -> dict[str, Any]:
    """Estimate the cost of a study with an empty store.

    Args:
        clips: number of training clips of each cell.
        seeds: number of replicates.
        price: US dollars per hour; 0 = the table's.

    Returns:
        cells, items (classifiers to train), hours, cpu_hours, gpu_hours, storage_gb, price_per_hour, money (US
        dollars), stages {name: seconds}, source.

    Raises:
        ConfigError: the table has no such preset.
    """
    if preset not in cost_table():
        raise ConfigError(f"no costs are known for preset {preset}; they are for {', '.join(cost_table())}")
    table = cost_table()[preset]
    total, price = sum(clips), price or table.price_per_hour
    stages = {
        name: cost.once
        + len(clips) * (cost.cell + seeds * cost.replicate)
        + seeds * total * (cost.clip + methods * cost.method_clip)
        for name, cost in table.stages.items()
    }
    hours = sum(stages.values()) / 3600
    return {
        "cells": len(clips),
        "items": len(clips) * methods * seeds,
        "hours": round(hours, 4),
        "cpu_hours": round(hours, 4) if table.unit == "cpu" else 0.0,
        "gpu_hours": round(hours, 4) if table.unit == "gpu" else 0.0,
        "storage_gb": round(table.gb_once + seeds * total * table.mb_clip / 1000, 3),
        "price_per_hour": price,
        "money": round(hours * price, 4),
        "stages": {name: round(seconds, 1) for name, seconds in stages.items()},
        "source": table.source,
    }


def check_budget(cost: dict[str, Any], budget: float) -> None:
    """Refuse work that costs more than `budget` (US dollars; 0 = no limit).

    Raises:
        ConfigError: the estimate exceeds the budget.
    """
    if budget and cost["money"] > budget:
        raise ConfigError(
            f"the work is estimated at {cost['money']:.2f} US dollars ({cost['hours']:.1f} h at "
            f"{cost['price_per_hour']:.2f} an hour), above the budget of {budget:.2f}: raise the budget, or take fewer "
            "datasets, clips, methods or replicates"
        )
