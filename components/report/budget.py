"""Training budget of each method, and the strengths and factors that validation chose among."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.config.methods import in_order
from components.report.wording import title


def budget_rows(selection: Mapping[str, Any], results: Mapping[str, Any], seed: int) -> list[dict[str, Any]]:
    """Table rows with steps, examples and clips of each method in one replicate.

    Steps and examples are equal for all methods, which makes the comparison fair.
    """
    rows = []
    for name in in_order(results["methods"]):
        figures_of = selection.get(f"{name}/{seed}")
        if figures_of is None:
            continue
        slot = figures_of.get("slot", {})
        rows.append(
            {
                "title": title(name, results),
                "steps": figures_of.get("steps"),
                "examples": figures_of.get("examples"),
                "synthetic_clips": figures_of.get("synthetic_clips", 0),
                "synthetic": slot.get("synthetic", 0),
                "gold": slot.get("gold", 0),
                "stands_in": figures_of.get("gold_stands_in_for", []),
                "classic": figures_of.get("classic", "none"),
                "strength": figures_of.get("strength"),
            }
        )
    return rows


def chosen_by(results: Mapping[str, Any]) -> str:
    """Validation figure that decided the selection: `accuracy`, `macro_f1` or `map`."""
    return str(results["selected"].get("by", "accuracy"))


def strength_rows(selection: Mapping[str, Any], results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Table rows with the strengths that validation chose among, by method and replicate."""
    rows, score = [], f"val_{chosen_by(results)}"
    for name in in_order(results["methods"]):
        for seed in results["methods"][name]["seeds"]:
            figures_of = selection.get(f"{name}/{seed}", {})
            tried = [e for e in figures_of.get("tried", []) if e.get("factor") == figures_of.get("factor")]
            if len(tried) > 1:
                rows.append(
                    {
                        "title": title(name, results),
                        "seed": seed,
                        "strength": figures_of.get("strength"),
                        "tried": [
                            {**entry, "chosen": entry["strength"] == figures_of.get("strength"), "score": entry[score]}
                            for entry in tried
                        ],
                    }
                )
    return rows


def factor_rows(selection: Mapping[str, Any], results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Table rows with the augmentation factors that validation chose among, by method and replicate."""
    rows, score = [], f"val_{chosen_by(results)}"
    for name in in_order(results["methods"]):
        for seed in results["methods"][name]["seeds"]:
            figures_of = selection.get(f"{name}/{seed}", {})
            tried = [e for e in figures_of.get("tried", []) if e["strength"] == figures_of.get("strength")]
            if len(tried) > 1:
                chosen = figures_of.get("factor")
                curve = [{**entry, "chosen": entry["factor"] == chosen, "score": entry[score]} for entry in tried]
                rows.append(
                    {"name": name, "title": title(name, results), "seed": seed, "factor": chosen, "curve": curve}
                )
    return rows
