"""What the page shows beyond report.json: `page.json`, written beside it, so that both together give the page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from common.config.evaluation import ReportPlan
from common.config.methods import BASELINE, SUBJECT, Method, in_order
from common.contracts.base import Contract
from common.contracts.evaluation import Evaluation
from common.contracts.generation import Alignment, FilterFigures
from common.contracts.gold import Health
from common.contracts.report import Report
from common.contracts.training import Seconds
from common.pages.numbers import number
from common.records.audio_folder import load_clip
from common.records.clips import GoldClip, SyntheticClip
from components.report.effects import BudgetRow, TriedRow, budget_rows, tried_rows
from components.report.inputs import Inputs
from components.report.players import Carrier, Floats, Player, choose
from components.report.results import dropped_clips
from components.report.wording import reason

LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "scikit-learn")
_SPLIT = {"official": "as the dataset says", "group": "by whole groups", "clip": "by clip"}
_VALIDATION = {
    "official": "as the dataset says",
    "remaining": "drawn from labelled clips that training does not use",
    "training": "taken out of the training clips, because nothing else remained",
}


class Card(Contract):
    """A synthetic clip with its player, beside the nearest real clip."""

    clip: SyntheticClip
    accepted: bool
    player: Player
    nearest: Player | None
    nearest_label: str


class Candidate(Contract):
    """A clip that CLAP judged, of the recipe whose clips are shown."""

    label: str
    score: float
    margin: float
    accepted: bool


class Shown(Contract):
    """Content of page.json."""

    plan: ReportPlan
    labels: list[str]
    confidence: float
    resampled: str
    resamples: int
    per_class: dict[str, Any] | None
    confusions: dict[str, list[list[int]]]
    seconds: Seconds
    budget: list[BudgetRow]
    strengths: list[TriedRow]
    factors: list[TriedRow]
    alignment: dict[str, Alignment]
    candidates: list[Candidate]
    thresholds: dict[int, FilterFigures]
    dropped: list[dict[str, str]]
    health: list[str]
    codec: str
    captioners: list[str]
    writers: list[str]
    provenance: list[tuple[str, str]]
    cards: list[Card]
    left_out: int


def shown(inputs: Inputs, plan: ReportPlan, report: Report) -> Shown:
    """Collect what the page shows beyond `report`."""
    evaluation, filtered = inputs.evaluation, inputs.filtered
    recipe = main_recipe(plan.methods, inputs.vanilla[0].recipe if inputs.vanilla else "")
    cards, left_out = _cards(inputs, plan, recipe)
    return Shown(
        plan=plan,
        **{name: getattr(evaluation, name) for name in ("labels", "confidence", "resampled", "resamples")},
        per_class=evaluation.per_class and evaluation.per_class.model_dump(),
        confusions=_confusions(evaluation),
        seconds=inputs.seconds,
        budget=budget_rows(inputs.selection, evaluation, plan.seeds[0]),
        strengths=tried_rows(inputs.selection, evaluation, "strength"),
        factors=tried_rows(inputs.selection, evaluation, "factor"),
        alignment=inputs.align.models,
        candidates=[
            Candidate(label=row.label, score=row.score, margin=row.margin, accepted=row.reason is None)
            for row in filtered.candidates
            if row.recipe == recipe and row.score is not None and row.margin is not None
        ],
        thresholds=filtered.thresholds,
        dropped=dropped_clips(inputs),
        health=health_facts(inputs.health),
        codec=inputs.codec,
        captioners=sorted({caption.captioner for caption in inputs.captions}),
        writers=_writers(inputs),
        provenance=_provenance(inputs, plan, report),
        cards=cards,
        left_out=left_out,
    )


def main_recipe(methods: Mapping[str, Method], fallback: str) -> str:
    """Name of the recipe whose clips are shown: the subject's, else that of the first method that filters."""
    recipes = [methods[SUBJECT].recipe] if SUBJECT in methods else []
    recipes += [methods[name].recipe for name in in_order(methods)]
    return next((recipe.name for recipe in recipes if recipe is not None and recipe.filter), fallback)


def _confusions(evaluation: Evaluation) -> dict[str, list[list[int]]]:
    """Matrices of the baseline and the subject (or the selected method); none where clips have several labels."""
    names = [name for name in (BASELINE, SUBJECT) if name in evaluation.methods]
    chosen = evaluation.selected.method
    names += [chosen] if SUBJECT not in names and chosen not in names else []
    return {name: matrix for name in names if (matrix := evaluation.methods[name].confusion)}


def _cards(inputs: Inputs, plan: ReportPlan, recipe: str) -> tuple[list[Card], int]:
    """Players of accepted, then rejected clips, as many as the page can hold; also count those left out."""
    settings, folders = plan.settings, inputs.folders
    carrier = Carrier(int(settings.max_audio_mb * 2**20), settings.max_player_s)
    sets = [(inputs.accepted, folders.accepted, True), (inputs.rejected, folders.rejected, False)]
    if not inputs.accepted and not inputs.rejected:
        sets = [(inputs.vanilla, folders.vanilla, True)]
    chosen = [
        (clip, folder, accepted)
        for clips, folder, accepted in sets
        for clip in choose(clips, recipe, settings.examples_per_class, settings.max_examples)
    ]
    cards = [card for clip, folder, accepted in chosen if (card := _card(inputs, carrier, clip, folder, accepted))]
    return cards, len(chosen) - len(cards)


def _card(inputs: Inputs, carrier: Carrier, clip: SyntheticClip, folder: Path, accepted: bool) -> Card | None:
    gold = inputs.gold.clips.get(clip.nearest_clip_id or clip.source_clip_id)
    own = carrier.carry(clip.clip_id, lambda: _load(folder, clip))
    if own is None:
        return None
    nearest = carrier.carry(gold.clip_id, lambda: _load(inputs.folders.gold, gold)) if gold is not None else None
    label = gold.label if gold is not None else ""
    return Card(clip=clip, accepted=accepted, player=own, nearest=nearest, nearest_label=label)


def _load(folder: Path, clip: GoldClip | SyntheticClip) -> tuple[Floats, int]:
    return load_clip(folder, clip, clip.sample_rate_hz), clip.sample_rate_hz


def _writers(inputs: Inputs) -> list[str]:
    return sorted({clip.writer for clip in [*inputs.vanilla, *inputs.accepted, *inputs.rejected]})


def _provenance(inputs: Inputs, plan: ReportPlan, report: Report) -> list[tuple[str, str]]:
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
        "Settings": f"preset {plan.preset}, SHA-256 {report.provenance['settings']}",
    }
    hashes = [(f"SHA-256 of {name}", value) for name, value in inputs.hashes.items()]
    return [(name, value) for name, value in facts.items() if value] + hashes


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


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
