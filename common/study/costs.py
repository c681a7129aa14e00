"""Cost estimate of a study: items, hours, storage, money; from the table `costs.yaml` and the counts of `work.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal

from pydantic import Field

from common.config.base import Frozen
from common.config.methods import Method
from common.config.run import RunConfig, load_preset
from common.contracts.study import Estimate
from common.errors import ConfigError
from common.study.work import cell_seconds, count_work, find_gpu, shared_seconds, table


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


@cache
def cost_table() -> dict[str, PresetCost]:
    """Costs by preset."""
    return {name: PresetCost.model_validate(row) for name, row in table()["presets"].items()}


def estimate(
    clips: Sequence[int],
    preset: str,
    methods: Mapping[str, Method],
    replicates: int,
    price: float = 0.0,
    *,
    clip_s: Sequence[float] = (),
    config: RunConfig | None = None,
    gpu: str = "",
) -> Estimate:
    """Estimate the cost of a study with an empty store.

    Args:
        price: US dollars per hour; 0 = the table's.
        clip_s: usual seconds of a clip of each cell, which count on a GPU; default: 10.

    Raises ConfigError: the table has no such preset or GPU.
    """
    if preset not in cost_table():
        raise ConfigError(f"no costs are known for preset {preset}; they are for {', '.join(cost_table())}")
    table = cost_table()[preset]
    kind, chosen = find_gpu(gpu)
    settings, total = config or load_preset(preset), sum(clips)
    counts = [count_work(settings, methods, n, replicates) for n in clips]
    stages = {
        name: cost.once
        + len(clips) * (cost.cell + replicates * cost.replicate)
        + replicates * total * cost.clip
        + sum(
            cost.alignment * each.alignments + cost.generated * each.at_most + cost.trained * (each.trained + 1)
            for each in counts
        )
        for name, cost in table.stages.items()
    }
    if table.unit == "gpu":
        cells = zip(clips, clip_s or [10.0] * len(clips), strict=True)
        each = [cell_seconds(settings, methods, n, replicates, chosen, seconds) for n, seconds in cells]
        for part in (shared_seconds(settings, chosen), *each):
            for name, seconds in part.items():
                stages[name] += seconds
    on_gpu = table.unit == "gpu"
    price = price or (chosen.price if on_gpu else table.price_per_hour)
    hours = sum(stages.values()) / 3600
    return Estimate(
        cells=len(clips),
        items=len(clips) * len(methods) * replicates,
        hours=round(hours, 4),
        cpu_hours=0.0 if on_gpu else round(hours, 4),
        gpu_hours=round(hours, 4) if on_gpu else 0.0,
        storage_gb=round(table.gb_once + replicates * total * table.mb_clip / 1000, 3),
        price_per_hour=price,
        money=round(hours * price, 4),
        stages={name: round(seconds, 1) for name, seconds in stages.items()},
        source=table.source,
        gpu=kind if on_gpu else "",
    )


def check_budget(cost: Estimate, budget: float) -> None:
    """Refuse work that costs more than `budget` (US dollars; 0 = no limit).

    Raises ConfigError: the estimate exceeds the budget.
    """
    if budget and cost.money > budget:
        raise ConfigError(
            f"the work is estimated at {cost.money:.2f} US dollars ({cost.hours:.1f} h at "
            f"{cost.price_per_hour:.2f} an hour), above the budget of {budget:.2f}: raise the budget, or take fewer "
            "datasets, clips, methods or replicates"
        )
