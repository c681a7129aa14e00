"""Times of a run as the page shows them; the report's stage does not know them, the local runner does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from common.pages.numbers import duration

_MACHINE = {"cpu": "{}", "cores": "{} cores", "memory_gb": "{} GB memory", "python": "Python {}"}


def own_seconds(patterns: Sequence[str], stages: Sequence[Mapping[str, Any]]) -> float | None:
    """Total time of the stages that match `patterns`; None if one was cached, because its time is unknown."""
    own = [row for row in stages if any(fnmatchcase(row["name"], pattern) for pattern in patterns)]
    return None if any(row.get("cached") for row in own) else sum(row["seconds"] for row in own)


def cost_rows(costs: Sequence[Mapping[str, Any]], stages: Sequence[Mapping[str, Any]]) -> list[dict[str, object]]:
    """Each method's own work and its time for each point gained over gold, in words."""
    rows = []
    for row in costs:
        seconds = own_seconds(row["stages"], stages)
        if seconds is None:
            work = each = "not known: in the cache"
        else:
            work = duration(seconds) if row["stages"] else "none beyond training"
            each = duration(seconds / (100 * row["mean"])) if row["mean"] > 0 and row["stages"] else "none"
        rows.append({**row, "work": work, "each": each if row["reliable"] else "not reliable"})
    return rows


def run_facts(run: Mapping[str, Any]) -> list[str]:
    """Wall time, time outside the models, and machine, each a sentence without its full stop."""
    machine, share = run["machine"], run.get("outside_models_share")
    parts = [text.format(machine[key]) for key, text in _MACHINE.items() if machine.get(key)]
    facts = [f"Wall time {duration(run['wall_seconds'])}"]
    if share is not None:
        facts.append(f"{100 * share:.1f} % of it outside the models (imports, orchestration, files)")
    return facts + ([f"Machine: {', '.join(parts)}"] if parts else [])
