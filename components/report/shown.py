"""What the page shows beyond report.json: `page.json`, written beside it, so that both together give the page."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from pydantic import Field

from common.audio.mel import png, spectrogram
from common.config.evaluation import ReportPlan
from common.config.methods import BASELINE, SUBJECT, Method, in_order
from common.contracts.base import Contract
from common.contracts.evaluation import ClassGains, Evaluation
from common.contracts.generation import Alignment, FilterFigures
from common.contracts.gold import Health
from common.contracts.report import Report
from common.contracts.training import Seconds
from common.pages.numbers import number
from common.records.audio_folder import load_clip
from common.records.clips import GoldClip, SyntheticClip
from common.runtime.seeding import derive_seed
from components.report.effects import BudgetRow, TriedRow, budget_rows, tried_rows
from components.report.inputs import Inputs
from components.report.results import dropped_clips
from components.report.wording import worded

Floats = NDArray[np.float32]

LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "scikit-learn")
_SPLIT = {"official": "as the dataset says", "group": "by whole groups", "clip": "by clip"}
_VALIDATION = {
    "official": "as the dataset says",
    "remaining": "drawn from labelled clips that training does not use",
    "training": "taken out of the training clips, because nothing else remained",
}


class Player(Contract):
    """Player of one clip."""

    audio: str = Field(description="data URI of a FLAC file")
    spectrogram: str = Field(description="data URI of a PNG")
    size: int = Field(description="bytes of the FLAC file")
    duration_s: float = Field(description="of the whole clip")
    cut: bool = Field(description="whether the player has only the start of the clip")


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
    per_class: ClassGains | None
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
    recipe = _main_recipe(inputs, plan.methods)
    cards, left_out = _cards(inputs, plan, recipe)
    return Shown.of(
        evaluation,
        inputs,
        plan=plan,
        confusions=_confusions(evaluation, report.delivered.method),
        budget=budget_rows(inputs.selection, evaluation, plan.replicates[0]),
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
        provenance=_provenance(inputs, plan, report),
        cards=cards,
        left_out=left_out,
    )


def _main_recipe(inputs: Inputs, methods: Mapping[str, Method]) -> str:
    """Name of the recipe whose clips are shown: the subject's, else that of the first method with judged clips."""
    judged = {clip.recipe for clip in [*inputs.accepted, *inputs.rejected]}
    recipes = [methods[name].recipe for name in (*{SUBJECT} & methods.keys(), *in_order(methods))]
    found = sorted((recipe for recipe in recipes if recipe is not None), key=lambda recipe: not recipe.filter)
    vanilla = inputs.vanilla[0].recipe if inputs.vanilla else ""
    return next((recipe.name for recipe in found if recipe.name in judged), vanilla)


def _confusions(evaluation: Evaluation, delivered: str) -> dict[str, list[list[int]]]:
    """Matrices of the baseline and the subject (or the delivered method); none where clips have several labels."""
    subject = SUBJECT if SUBJECT in evaluation.methods else delivered
    found = {name: evaluation.methods[name].confusion for name in (BASELINE, subject) if name in evaluation.methods}
    return {name: matrix for name, matrix in found.items() if matrix}


def _cards(inputs: Inputs, plan: ReportPlan, recipe: str) -> tuple[list[Card], int]:
    """Players of accepted, then rejected clips, as many as the page can hold; also count those left out."""
    settings = plan.settings
    carrier = Carrier(int(settings.max_audio_mb * 2**20), settings.max_player_s)
    sets = {"accepted": inputs.accepted, "rejected": inputs.rejected}
    if not inputs.accepted and not inputs.rejected:
        sets = {"vanilla": inputs.vanilla}
    chosen = [
        (name, clip)
        for name, clips in sets.items()
        for clip in choose(clips, recipe, settings.examples_per_class, settings.max_examples)
    ]
    cards = [card for name, clip in chosen if (card := _card(inputs, carrier, clip, name))]
    return cards, len(chosen) - len(cards)


def _card(inputs: Inputs, carrier: Carrier, clip: SyntheticClip, name: str) -> Card | None:
    gold = inputs.gold.clips.get(clip.nearest_clip_id or clip.source_clip_id)
    own = carrier.carry(clip, inputs.folders[name])
    if own is None:
        return None
    nearest = carrier.carry(gold, inputs.folders["gold"]) if gold else None
    label = gold.label if gold else ""
    return Card(clip=clip, accepted=name != "rejected", player=own, nearest=nearest, nearest_label=label)


def choose(clips: Sequence[SyntheticClip], recipe: str, per_class: int, total: int) -> list[SyntheticClip]:
    """Draw clips of a recipe at random, not by quality, and evenly over the classes as far as clips exist.

    Returns clips ordered by label, then by the draw.
    """
    by_label: dict[str, list[SyntheticClip]] = {}
    for clip in sorted(clips, key=lambda clip: (derive_seed(0, "report", clip.clip_id), clip.clip_id)):
        if clip.recipe == recipe:
            by_label.setdefault(clip.label, []).append(clip)
    turns = [
        by_label[label][turn] for turn in range(per_class) for label in sorted(by_label) if turn < len(by_label[label])
    ]
    return sorted(turns[:total], key=lambda clip: clip.label)


class Carrier:
    """Builds players until `budget` bytes of FLAC are used up; clips of more than `max_s` seconds are cut."""

    def __init__(self, budget: int, max_s: float) -> None:
        self._left, self._max_s = budget, max_s
        self._made: dict[str, Player] = {}

    def carry(self, clip: GoldClip | SyntheticClip, folder: Path) -> Player | None:
        """Build the player of a clip; None when the page has no room for it.

        A clip that is carried again reuses the player but counts against the budget again.
        """
        if clip.clip_id not in self._made:
            rate = clip.sample_rate_hz
            self._made[clip.clip_id] = make_player(load_clip(folder, clip, rate), rate, self._max_s)
        player = self._made[clip.clip_id]
        if player.size > self._left:
            return None
        self._left -= player.size
        return player


def make_player(waveform: Floats, rate: int, max_s: float) -> Player:
    """Build a player with FLAC (16 bit) and spectrogram of the first `max_s` seconds of a mono waveform (T,)."""
    heard = waveform[: max(1, round(max_s * rate))]
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(heard, -1, 1), rate, format="FLAC", subtype="PCM_16")
    return Player(
        audio=_uri("audio/flac", buffer.getvalue()),
        spectrogram=_uri("image/png", png(spectrogram(heard, rate))),
        size=len(buffer.getvalue()),
        duration_s=len(waveform) / rate,
        cut=len(heard) < len(waveform),
    )


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _provenance(inputs: Inputs, plan: ReportPlan, report: Report) -> list[tuple[str, str]]:
    corpus, dataset = inputs.corpus, inputs.gold.dataset
    samplers = {json.dumps(clip.sampler, sort_keys=True) for clip in [*inputs.vanilla, *inputs.accepted]}
    facts = {
        "Dataset": dataset.name,
        "Licence of the data": dataset.licence or "not stated",
        "Domain": dataset.domain,
        "Pretraining corpus": ", ".join(str(corpus[key]) for key in ("name", "licence") if corpus.get(key)),
        "Replicates (seeds)": ", ".join(map(str, plan.replicates)),
        "Methods": ", ".join(in_order(plan.methods)),
        "Captions of real clips by": ", ".join(inputs.captioners),
        "New captions by": ", ".join(inputs.writers),
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
    return lines + [f"{note.clips} clip(s) were used although {worded(code)}." for code, note in health.notes.items()]


def _listed(counts: Mapping[str, int], unit: str = "") -> str:
    return ", ".join(f"{name}{unit} ({count})" for name, count in counts.items())
