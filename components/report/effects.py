"""What stands behind the gains: budget, strength, augmentation factor, class size, and the cost of each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from common.config.methods import BASELINE, Method, in_order
from common.config.recipes import LOSERS
from common.contracts.base import Contract
from common.study.comparisons import reliable
from components.report.wording import title


class Budget(Contract):
    """What a method trained on in a replicate."""

    title: str
    steps: int | None
    examples: int | None
    synthetic_clips: int
    synthetic: int
    stands_in: list[str]
    classic: str
    strength: float | None


class Scored(Contract):
    """A strength or factor with its score on validation."""

    value: int | float
    score: float
    chosen: bool


class Tried(Contract):
    """Strengths or factors among which validation chose, of a method in a replicate."""

    name: str
    title: str
    seed: int
    tried: list[Scored]


def factors(selection: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Mean validation score by augmentation factor, for methods that tried several factors.

    Returns:
        `by` (figure), `split` ("validation"), and `methods` by name: factor, mean and per_seed of each factor that all
        replicates tried.
    """
    curves: dict[str, list[dict[float, float]]] = {}
    for row in tried_rows(selection, evaluation, "factor"):
        curves.setdefault(row.name, []).append({entry.value: entry.score for entry in row.tried})
    found = {}
    for name, seeds in curves.items():
        common = sorted(set.intersection(*(set(curve) for curve in seeds)))
        scores = {factor: [curve[factor] for curve in seeds] for factor in common}
        found[name] = [{"factor": f, "mean": sum(s) / len(s), "per_seed": s} for f, s in scores.items()]
    return {
        "by": chosen_by(evaluation),
        "split": "validation",
        "methods": {name: rows for name, rows in found.items() if len(rows) > 1},
    }


def long_tail(evaluation: Mapping[str, Any], counts: Mapping[str, int]) -> dict[str, Any] | None:
    """Gain of each class, rarest in training first, and mean gains over thirds of the classes.

    Args:
        evaluation: content of evaluation.json.
        counts: training clips of each label in the first replicate.

    Returns:
        None without a comparison. `balanced` means that all classes have equally many clips, so there is no tail.
        `thirds` [{name, classes, fewest, most, mean}] is empty when balanced or with fewer than six classes.
    """
    found = evaluation["per_class"]
    if found is None:
        return None
    rows = sorted(
        (
            {
                "label": row["label"],
                "train": counts[row["label"]],
                "test": row["clips"],
                **{k: row[k] for k in ("mean", "low", "high")},
            }
            for row in found["classes"]
        ),
        key=lambda row: (row["train"], row["label"]),
    )
    balanced = len({row["train"] for row in rows}) < 2
    return {
        "method": found["method"],
        "versus": found["versus"],
        "balanced": balanced,
        "classes": rows,
        "thirds": [] if balanced or len(rows) < 6 else _thirds(rows),
    }


def _thirds(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    bounds = [round(len(rows) * part / 3) for part in range(4)]
    thirds = []
    for name, start, end in zip(
        ("rarest third", "middle third", "most frequent third"), bounds, bounds[1:], strict=False
    ):
        own = rows[start:end]
        thirds.append(
            {
                "name": name,
                "classes": len(own),
                "fewest": own[0]["train"],
                "most": own[-1]["train"],
                "mean": sum(row["mean"] for row in own) / len(own),
            }
        )
    return thirds


def cost(evaluation: Mapping[str, Any], methods: Mapping[str, Method]) -> list[dict[str, Any]]:
    """Gain of each method over gold, and the stages that it needs.

    Returns:
        For each method except gold and the ceilings: name, title, mean, low, high; `reliable` (the gain is
        reliably above 0); `stages` (beyond pretraining and training; `*` includes repeats).
    """
    return [
        {
            "name": row["method"],
            "title": evaluation["methods"][row["method"]]["title"],
            **{key: row[key] for key in ("mean", "low", "high")},
            "reliable": reliable(row) > 0,
            "stages": own_stages(methods[row["method"]]),
        }
        for row in evaluation["differences"]
        if row["versus"] == BASELINE and row["method"] in methods and not methods[row["method"]].ceiling
    ]


def own_stages(method: Method) -> list[str]:
    """Stages that a method needs and gold does not, including those shared with other methods."""
    recipe = method.recipe
    if recipe is None or recipe.source == "real":
        return []
    if recipe.from_corpus:
        return ["retrieve-audio*"]
    if recipe == LOSERS:
        return ["synthesize-audio"]
    stages = ["synthesize-audio*"]
    stages += ["align-t2a*"] if recipe.alignment != "none" else []
    stages += ["caption-clips*"] if recipe.captions in ("plain", "mixcap") else []
    stages += ["augment-captions*"] if recipe.captions != "template" else []
    stages += ["finetune-clap*", "filter-audio*"] if recipe.filter else []
    stages += ["revise-captions*"] if recipe.rounds != 0 else []
    return stages


def budget_rows(selection: Mapping[str, Any], results: Mapping[str, Any], seed: int) -> list[Budget]:
    """Steps, examples and clips of each method in one replicate; equal steps and examples make the comparison fair."""
    told = {name: selection.get(f"{name}/{seed}") for name in in_order(results["methods"])}
    return [
        Budget(
            title=title(name, results),
            steps=row.get("steps"),
            examples=row.get("examples"),
            synthetic_clips=row.get("synthetic_clips", 0),
            synthetic=row.get("slot", {}).get("synthetic", 0),
            stands_in=row.get("gold_stands_in_for", []),
            classic=row.get("classic", "none"),
            strength=row.get("strength"),
        )
        for name, row in told.items()
        if row is not None
    ]


def chosen_by(results: Mapping[str, Any]) -> str:
    """Validation figure that decided the selection: `accuracy`, `macro_f1` or `map`."""
    return str(results["selected"].get("by", "accuracy"))


def tried_rows(
    selection: Mapping[str, Any], results: Mapping[str, Any], what: Literal["strength", "factor"]
) -> list[Tried]:
    """Strengths (at the chosen factor) or factors (at the chosen strength), where validation had a choice."""
    rows, fixed = [], {"strength": "factor", "factor": "strength"}[what]
    for name in in_order(results["methods"]):
        for seed in results["methods"][name]["seeds"]:
            told = selection.get(f"{name}/{seed}", {})
            tried = [entry for entry in told.get("tried", []) if entry.get(fixed) == told.get(fixed)]
            if len(tried) > 1:
                scored = [(entry[what], entry[f"val_{chosen_by(results)}"]) for entry in tried]
                values = [Scored(value=v, score=score, chosen=v == told.get(what)) for v, score in scored]
                rows.append(Tried(name=name, title=title(name, results), seed=seed, tried=values))
    return rows
