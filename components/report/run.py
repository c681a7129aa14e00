"""Reads the figures and clips of all stages, computes the results, writes `report.json` and the pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common.config.evaluation import ReportPlan
from common.config.run import RunConfig
from common.records.audio_folder import load_clip
from common.records.clips import GoldClip, SyntheticClip
from common.runtime.stage import stage
from common.storage import write_json, write_text
from components.report.context import Card, main_recipe, page_context
from components.report.effects import further
from components.report.inputs import Folders, Inputs, read_inputs
from components.report.page import markdown, render
from components.report.players import Carrier, Floats, choose
from components.report.results import results
from components.report.sections import method_rows


def run(
    evaluation_path: str,
    gold_path: str,
    corpus_path: str,
    t2a_path: str,
    aligned_path: str,
    clap_path: str,
    classifiers_path: str,
    captions_path: str,
    prompts_path: str,
    vanilla_path: str,
    accepted_path: str,
    rejected_path: str,
    results_path: str,
    html_path: str,
    markdown_path: str,
    confusion_path: str,
    metrics_path: str,
    *,
    config: dict[str, Any],
    code_version: str,
) -> tuple[dict[str, Any], list[str], list[list[int]] | None]:
    """Write the report; `component.py` describes the arguments.

    Returns:
        The run's figures, the labels, and the confusion matrix (rows = truth) of the method that validation chose; the
        matrix is None where clips have several labels.
    """
    plan = _with_all_settings(ReportPlan.model_validate(config))
    folders = Folders(
        *map(
            Path,
            (
                evaluation_path,
                gold_path,
                corpus_path,
                t2a_path,
                aligned_path,
                clap_path,
                classifiers_path,
                captions_path,
                prompts_path,
                vanilla_path,
                accepted_path,
                rejected_path,
            ),
        )
    )
    artifacts = {name: str(folder) for name, folder in vars(folders).items()}
    with stage("report", config, metrics_path, {"results": results_path}, artifacts) as running:
        inputs = read_inputs(folders)
        found = results(inputs, plan, further(inputs, plan.methods, plan.settings.acoustic_clips))
        recipe = main_recipe(plan.methods, inputs.vanilla[0].recipe if inputs.vanilla else "")
        cards, left_out = _cards(inputs, plan, recipe)
        page = render(page_context(inputs, plan, found, cards, left_out, recipe))
        write_json(Path(results_path) / "report.json", found)
        write_text(Path(results_path) / "report.html", page)
        write_text(Path(html_path), page)
        write_text(Path(markdown_path), markdown(found, method_rows(found)["rows"]))
        labels = inputs.evaluation["labels"]
        matrix = inputs.evaluation["methods"][found["selected"]["method"]]["confusion"]
        write_text(Path(confusion_path), json.dumps({"labels": labels, "matrix": matrix}, ensure_ascii=False))
        figure = found["figure"]
        running.record({f"{figure}_{name}": row[figure]["mean"] for name, row in found["methods"].items()})
        running.record({"verdict": found["verdict"]["state"], "players": len(cards)})
    return running.figures, labels, matrix


def _cards(inputs: Inputs, plan: ReportPlan, recipe: str) -> tuple[list[Card], int]:
    """Build players of accepted, then rejected clips, as many as the page can hold; also count those left out."""
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
    folders = inputs.folders
    gold = inputs.gold.clips.get(clip.nearest_clip_id or clip.source_clip_id)
    own = carrier.carry(clip.clip_id, lambda: _load(folder, clip))
    if own is None:
        return None
    nearest = carrier.carry(gold.clip_id, lambda: _load(folders.gold, gold)) if gold is not None else None
    return Card(clip, accepted, own, nearest, gold.label if gold is not None else "")


def _load(folder: Path, clip: GoldClip | SyntheticClip) -> tuple[Floats, int]:
    return load_clip(folder, clip, clip.sample_rate_hz), clip.sample_rate_hz


def _with_all_settings(plan: ReportPlan) -> ReportPlan:
    """The plan with the defaults among its `run_config` too."""
    whole = RunConfig.model_validate(plan.run_config).model_dump(mode="json", exclude={"scope"})
    return plan.model_copy(update={"run_config": whole})
