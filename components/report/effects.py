"""What stands behind the gains: budget, strength, augmentation factor, class size, and the cost of each method."""

from collections.abc import Mapping, Sequence
from typing import Literal

from common.config.methods import BASELINE, Method, in_order
from common.config.recipes import LOSERS
from common.contracts.base import Contract
from common.contracts.evaluation import Evaluation
from common.contracts.report import Cost, FactorPoint, Factors, LongTail, TailClass, Third
from common.contracts.training import Selection, Strength
from common.study.comparisons import reliable


class BudgetRow(Contract):
    """Steps, examples and clips of a method in one replicate."""

    title: str
    steps: int
    examples: int
    synthetic_clips: int
    synthetic: int
    stands_in: list[str]
    classic: str
    strength: Strength | None


class TriedValue(Contract):
    """A strength or factor, and its score on validation."""

    value: Strength | None
    score: float
    chosen: bool


class TriedRow(Contract):
    """Strengths or factors among which validation chose for a method and replicate."""

    name: str
    title: str
    replicate: int
    tried: list[TriedValue]


def factors(selection: Selection, evaluation: Evaluation) -> Factors:
    """Mean validation score at each factor that all replicates tried, of methods that tried several."""
    curves: dict[str, list[dict[int, float]]] = {}
    for row in tried_rows(selection, evaluation, "factor"):
        curves.setdefault(row.name, []).append({int(each.value or 0): each.score for each in row.tried})
    found = {}
    for name, replicates in curves.items():
        common = sorted(set.intersection(*(set(curve) for curve in replicates)))
        scores = {factor: [curve[factor] for curve in replicates] for factor in common}
        found[name] = [FactorPoint(factor=f, mean=sum(s) / len(s), per_seed=s) for f, s in scores.items()]
    several = {name: rows for name, rows in found.items() if len(rows) > 1}
    return Factors(by=selection.select_by, split="validation", methods=several)


def long_tail(evaluation: Evaluation, counts: Mapping[str, int]) -> LongTail | None:
    """Gain of each class, rarest in training first, and mean gains over thirds of the classes.

    Args:
        counts: training clips of each label in the first replicate.
    """
    found = evaluation.per_class
    if found is None:
        return None
    rows = [TailClass.of(row, train=counts[row.label], test=row.clips) for row in found.classes]
    rows.sort(key=lambda row: (row.train, row.label))
    balanced = len({row.train for row in rows}) < 2
    thirds = [] if balanced or len(rows) < 6 else _thirds(rows)
    return LongTail(method=found.method, versus=found.versus, balanced=balanced, classes=rows, thirds=thirds)


def _thirds(rows: Sequence[TailClass]) -> list[Third]:
    bounds = [round(len(rows) * part / 3) for part in range(4)]
    thirds = []
    for part, name in enumerate(("rarest third", "middle third", "most frequent third")):
        own = rows[bounds[part] : bounds[part + 1]]
        mean = sum(row.mean for row in own) / len(own)
        thirds.append(Third(name=name, classes=len(own), fewest=own[0].train, most=own[-1].train, mean=mean))
    return thirds


def cost(evaluation: Evaluation, methods: Mapping[str, Method]) -> list[Cost]:
    """Gain over gold, and the stages needed, of each method except gold and the ceilings."""
    return [
        Cost.of(
            row,
            name=row.method,
            title=evaluation.methods[row.method].title,
            reliable=reliable(row) > 0,
            stages=own_stages(methods[row.method]),
        )
        for row in evaluation.differences
        if row.versus == BASELINE and row.method in methods and not methods[row.method].ceiling
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
    stages = ["retrieve-audio*"] if recipe.start == "corpus" else []
    stages += ["synthesize-audio*"]
    stages += ["align-t2a*"] if recipe.alignment != "none" else []
    stages += ["caption-clips*"] if recipe.captions in ("plain", "mixcap") else []
    stages += ["augment-captions*"] if recipe.captions != "template" else []
    stages += ["finetune-clap*", "filter-audio*"] if recipe.filter else []
    stages += ["revise-captions*"] if recipe.rounds != 0 else []
    return stages


def budget_rows(selection: Selection, evaluation: Evaluation, replicate: int) -> list[BudgetRow]:
    """Steps, examples and clips of each method in one replicate; equal steps and examples make the comparison fair."""
    return [
        BudgetRow.of(told, told.slot, title=evaluation.methods[name].title, stands_in=told.gold_stands_in_for)
        for name in in_order(evaluation.methods)
        if (told := selection.chosen.get(f"{name}/{replicate}"))
    ]


def tried_rows(selection: Selection, evaluation: Evaluation, what: Literal["strength", "factor"]) -> list[TriedRow]:
    """Strengths (at the chosen factor) or factors (at the chosen strength), where there was a choice."""
    rows, fixed = [], {"strength": "factor", "factor": "strength"}[what]
    for name in in_order(evaluation.methods):
        for replicate in evaluation.methods[name].seeds:
            told = selection.chosen.get(f"{name}/{replicate}")
            tried = [entry for entry in told.tried if getattr(entry, fixed) == getattr(told, fixed)] if told else []
            if len(tried) > 1:
                values = [
                    TriedValue(
                        value=getattr(entry, what),
                        score=entry.figure(selection.select_by),
                        chosen=getattr(entry, what) == getattr(told, what),
                    )
                    for entry in tried
                ]
                title = evaluation.methods[name].title
                rows.append(TriedRow(name=name, title=title, replicate=replicate, tried=values))
    return rows
