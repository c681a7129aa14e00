"""Everything that the page's template names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from common.comparisons import FIGURES
from common.config.report import ReportPlan
from common.methods import SUBJECT, Method, in_order
from common.records import SyntheticClip
from components.report import budget, effects, sections
from components.report.health import health_facts
from components.report.inputs import Inputs
from components.report.limits import limits
from components.report.naming import title
from components.report.page import code
from components.report.players import Player
from components.report.results import dropped_clips
from components.report.synthetic import SOURCES
from components.report.wording import TITLES, figure_of

LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "scikit-learn")

CONTENTS = (
    ("methods", "Methods"),
    ("classes", "Classes"),
    ("listen", "Listen"),
    ("quality", "Synthetic clips"),
    ("alignment", "Alignment"),
    ("budget", "Budget"),
    ("data", "Data"),
    ("run", "Time"),
    ("provenance", "Provenance"),
    ("reading", "How to read"),
    ("limits", "Limits"),
)


@dataclass(frozen=True)
class Card:
    """A synthetic clip to listen to, beside the real clip nearest to it."""

    clip: SyntheticClip
    accepted: bool
    player: Player
    nearest: Player | None
    nearest_label: str


def main_recipe(methods: Mapping[str, Method], fallback: str) -> str:
    """Name of the recipe whose clips are shown: that of the subject, else of the first method that filters."""
    recipes = [methods[SUBJECT].recipe] if SUBJECT in methods else []
    recipes += [methods[name].recipe for name in in_order(methods)]
    return next((recipe.name for recipe in recipes if recipe is not None and recipe.filter), fallback)


def page_context(
    inputs: Inputs, plan: ReportPlan, results: Mapping[str, Any], cards: list[Card], left_out: int, recipe: str
) -> dict[str, Any]:
    """What `templates/report.html.j2` names.

    Args:
        inputs: of the stage.
        plan: of the stage.
        results: of report.json.
        cards: the players.
        left_out: players for which the page had no room.
        recipe: see `main_recipe`.
    """
    evaluation = inputs.evaluation
    alignment = sections.alignment(inputs.align)
    rounds = sections.round_rows(inputs.filtered)
    classics = (evaluation["best_classic"] or {}).get("chosen", {})
    return {
        "name": str(inputs.dataset.get("name") or plan.dataset.get("name") or "dataset"),
        "licence": str(inputs.dataset.get("licence") or ""),
        "plan": plan,
        "results": results,
        "evaluation": evaluation,
        "verdict": results["verdict"],
        "figure": figure_of(results),
        "measure": FIGURES[figure_of(results)],
        "measure_title": TITLES[figure_of(results)],
        "chosen_by": FIGURES[budget.chosen_by(results)],
        "confidence": f"{100 * evaluation['confidence']:g} %".replace(" ", "\u202f"),
        "methods": sections.method_rows(results, plan.n),
        "impossible": sections.impossible(results, plan.methods),
        "ablations": effects.ablations(results),
        "long_tail": effects.tail_rows(results),
        "factor_chart": effects.factor_chart(results),
        "acoustics": sections.acoustic_rows(results, plan.methods),
        "cost": json.dumps(results["cost"], ensure_ascii=False),
        "differences": sections.difference_rows(results),
        "chosen_classics": ", ".join(
            f"replicate {seed}: {title(method, results)}" for seed, method in sorted(classics.items())
        ),
        "gains_by_class": sections.class_gains(evaluation, results),
        "confusions": sections.confusions(evaluation),
        "examples": _grouped(cards),
        "left_out": left_out,
        "rounds": rounds,
        "sets": sections.set_rows(evaluation, plan.methods),
        "distances": evaluation["distances"],
        "clap": sections.filter_charts(inputs.filtered, recipe),
        "writing": results["writing"],
        "sources": SOURCES,
        "likeness": {sections.set_title(name, plan.methods): row for name, row in results["likeness"].items()},
        "captions": {sections.set_title(name, plan.methods): row for name, row in results["captions"].items()},
        "alignment": alignment,
        "budget": budget.budget_rows(inputs.selection, results, plan.seeds[0]),
        "strengths": budget.strength_rows(inputs.selection, results),
        "factors": budget.factor_rows(inputs.selection, results),
        "selected_title": title(evaluation["selected"]["method"], results),
        "balance": sections.class_balance(results),
        "leaks": evaluation["leaks"],
        "dropped": dropped_clips(inputs),
        "dropped_reasons": sections.reasons_of(dropped_clips(inputs)),
        "health_facts": health_facts(inputs.health),
        "provenance": _provenance(inputs, plan, results),
        "limits": _limits(inputs, plan, results),
        "settings": json.dumps(plan.run_config, indent=2, sort_keys=True, ensure_ascii=False),
        "contents": [entry for entry in CONTENTS if entry[0] != "alignment" or alignment],
    }


def _grouped(cards: list[Card]) -> list[dict[str, Any]]:
    groups = []
    for label in sorted({card.clip.label for card in cards}):
        own = [card for card in cards if card.clip.label == label]
        accepted = sum(card.accepted for card in own)
        groups.append({"label": label, "cards": own, "accepted": accepted, "rejected": len(own) - accepted})
    return groups


def _writers(inputs: Inputs) -> list[str]:
    return sorted({clip.writer for clip in [*inputs.vanilla, *inputs.accepted, *inputs.rejected]})


def _provenance(inputs: Inputs, plan: ReportPlan, results: Mapping[str, Any]) -> list[tuple[str, str]]:
    corpus = inputs.corpus
    samplers = {json.dumps(clip.sampler, sort_keys=True) for clip in [*inputs.vanilla, *inputs.accepted]}
    facts = {
        "Dataset": str(inputs.dataset.get("name", "")),
        "Licence of the data": str(inputs.dataset.get("licence") or "not stated"),
        "Domain": str(inputs.dataset.get("domain") or ""),
        "Pretraining corpus": ", ".join(str(corpus[key]) for key in ("name", "licence") if corpus.get(key)),
        "Replicates (seeds)": ", ".join(map(str, plan.seeds)),
        "Methods": ", ".join(in_order(plan.methods)),
        "Captions of real clips by": ", ".join(sorted({caption.captioner for caption in inputs.captions})),
        "New captions by": ", ".join(_writers(inputs)),
        "Audio codec": inputs.codec,
        "Sampling": "; ".join(sorted(samplers)),
        "Libraries": ", ".join(f"{name} {_version(name)}" for name in LIBRARIES),
        "Settings": f"preset {plan.preset}, SHA-256 {results['provenance']['settings']}",
    }
    hashes = [(f"SHA-256 of {name}", value) for name, value in inputs.hashes.items()]
    return [(name, value) for name, value in facts.items() if value] + hashes


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def _limits(inputs: Inputs, plan: ReportPlan, results: Mapping[str, Any]) -> list[str]:
    facts = {
        "codec": inputs.codec,
        "captioners": [caption.captioner for caption in inputs.captions],
        "writers": _writers(inputs),
        "replicates": len(plan.seeds),
        "n_test": results["data"]["n_test"],
        "groups": results["data"]["test_groups"],
    }
    return limits(facts, code)
