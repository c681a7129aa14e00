"""Template context of the report page, with provenance, limits and data health in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from markupsafe import Markup

from common.config.evaluation import ReportPlan
from common.config.methods import SUBJECT, Method, in_order
from common.contracts.gold import Health
from common.pages.numbers import number
from common.records.clips import SyntheticClip
from common.study.comparisons import FIGURES
from components.report import budget, effects, sections
from components.report.inputs import Inputs
from components.report.page import code
from components.report.players import Player
from components.report.results import dropped_clips
from components.report.synthetic import SOURCES
from components.report.wording import TITLES, figure_of, reason, title

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
TRAINED_CODEC = "AutoencoderOobleck"
_SPLIT = {"official": "as the dataset says", "group": "by whole groups", "clip": "by clip"}
_VALIDATION = {
    "official": "as the dataset says",
    "remaining": "drawn from labelled clips that training does not use",
    "training": "taken out of the training clips, because nothing else remained",
}


@dataclass(frozen=True)
class Card:
    """A synthetic clip with its player, beside the nearest real clip."""

    clip: SyntheticClip
    accepted: bool
    player: Player
    nearest: Player | None
    nearest_label: str


def main_recipe(methods: Mapping[str, Method], fallback: str) -> str:
    """Name of the recipe whose clips are shown: the subject's, else that of the first method that filters."""
    recipes = [methods[SUBJECT].recipe] if SUBJECT in methods else []
    recipes += [methods[name].recipe for name in in_order(methods)]
    return next((recipe.name for recipe in recipes if recipe is not None and recipe.filter), fallback)


def page_context(
    inputs: Inputs, plan: ReportPlan, results: Mapping[str, Any], cards: list[Card], left_out: int, recipe: str
) -> dict[str, Any]:
    """Variables of `templates/report.html.j2`.

    Args:
        inputs: records and figures of all stages.
        plan: resolved settings.
        results: content of report.json.
        cards: clips with their players.
        left_out: number of clips for which the page had no room.
        recipe: name of the recipe whose clips are shown.
    """
    evaluation = inputs.evaluation
    alignment = sections.alignment(inputs.align)
    rounds = sections.round_rows(inputs.filtered)
    classics = (evaluation["best_classic"] or {}).get("chosen", {})
    return {
        "name": inputs.gold.dataset.name,
        "licence": inputs.gold.dataset.licence,
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
        "learners": sections.learner_rows(results, inputs.seconds),
        "best_tiles": sections.best_tiles(results),
        "delivered": sections.delivered(results),
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
    corpus, dataset = inputs.corpus, inputs.gold.dataset
    samplers = {json.dumps(clip.sampler, sort_keys=True) for clip in [*inputs.vanilla, *inputs.accepted]}
    facts = {
        "Dataset": dataset.name,
        "Licence of the data": dataset.licence or "not stated",
        "Domain": dataset.domain,
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


def limits(facts: Mapping[str, Any], named: Callable[[str], Markup]) -> list[str | Markup]:
    """Limits of the results, as sentences that follow from the run's setup.

    Args:
        facts: codec (class), captioners and writers (lists of names), replicates, n_test, groups (numbers).
        named: marks up and escapes a name.
    """
    lines: list[str | Markup] = []
    if facts["codec"] not in (TRAINED_CODEC, ""):
        lines.append(
            Markup(
                "Audio is coded by {}, a fixed transform in the place of a trained autoencoder: fine detail of the "
                "sounds is simplified, and results with a trained one may differ."
            ).format(named(facts["codec"]))
        )
    if any("grammar" in writer for writer in facts["writers"]):
        lines.append(
            "New captions were composed by a small built-in grammar, not by a language model: they vary words and "
            "acoustics, but know nothing of the world."
        )
    if any("acoustics" in name for name in facts["captioners"]):
        lines.append("Real clips were captioned from their label and measured acoustics, not by a model that listens.")
    if facts["replicates"] < 5:
        count = "One replicate" if facts["replicates"] == 1 else f"{facts['replicates']} replicates"
        lines.append(
            f"{count}: training is subject to chance, and so few repetitions measure that chance roughly. Intervals "
            "are widened for it, yet a small gain can be missed or, more rarely, imagined."
        )
    groups = f" of {facts['groups']} groups" if facts["groups"] else ""
    lines.append(
        f"The test set has {facts['n_test']} clips{groups}. The figures hold for sounds recorded as these were, not "
        "for other microphones, rooms or speakers."
    )
    lines.append(
        "CLAP chooses which clips are kept and also measures how close the synthetic clips are to the real ones. The "
        "oracle is a second opinion, but it has heard the training clips."
    )
    return lines


def health_facts(health: Health) -> list[str]:
    """Sentences on files, splits and irregularities of the data."""
    rates, seconds = _listed(health.sample_rates_hz, " Hz"), health.duration_s
    lines = [
        f"Files: {_listed(health.formats)}; {rates}; {_listed(health.channels, ' channel(s)')}.",
        f"Durations: {number(seconds.shortest)} to {number(seconds.longest)} s, median {number(seconds.median)} s, "
        f"{number(seconds.total)} s in all.",
        f"Test clips: {_SPLIT[health.test_split_by]}.",
        f"Validation clips: {_VALIDATION[health.validation_from]}.",
    ]
    if health.clips_cut:
        lost = number(health.seconds_cut)
        lines.append(f"{health.clips_cut} long clip(s) were cut to their loudest part: {lost} s left out.")
    if health.duplicate_sets:
        lines.append(f"{health.duplicate_sets} recording(s) are listed more than once; no copy crosses the splits.")
    if health.ignored_columns:
        lines.append(f"Columns that were not used: {', '.join(health.ignored_columns)}.")
    if health.ignored_files_count:
        lines.append(f"{health.ignored_files_count} file(s) were not listed or are no audio, and were not used.")
    return lines + [f"{note.clips} clip(s) were used although {reason(code)}." for code, note in health.notes.items()]


def _listed(counts: Mapping[str, int], unit: str = "") -> str:
    return ", ".join(f"{name}{unit} ({count})" for name, count in counts.items())
