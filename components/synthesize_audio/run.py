"""Reads prompts and gold clips, generates, writes an AudioFolder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.config.recipes import LOSERS
from common.config.t2a import SynthesizeAudioPlan
from common.errors import DataError
from common.log import event, get_logger
from common.models.concepts import spelled_words
from common.records.audio_folder import copy_audio_folder
from common.records.clips import Prompt, read_records, template_prompts
from common.records.gold import GoldSet
from common.records.provenance import write_provenance
from common.runtime.stage import Figures, stage
from common.storage.items import ItemStore
from components.synthesize_audio.requests import check_prompts, recipe_of
from components.synthesize_audio.starts import find_starts

log = get_logger("synthesize_audio")


def run(
    t2a_path: str,
    gold_path: str,
    synthetic_path: str,
    metrics_path: str,
    *,
    config: dict[str, Any],
    code_version: str,
    aligned_path: str | None = None,
    prompts_path: str | None = None,
    retrieved_path: str | None = None,
) -> Figures:
    """Generate the clips of a round; `component.py` describes the arguments.

    Raises:
        ConfigError: a prompt has no recipe of the run.
        DataError: a prompt cannot be generated, or its model is missing.

    Returns number of clips, their total duration, and failed signal checks by reason.
    """
    plan = SynthesizeAudioPlan.model_validate(config)
    artifacts = {"gold": gold_path, "prompts": prompts_path, "retrieved": retrieved_path}
    with stage("synthesize_audio", config, metrics_path, {"synthetic": synthetic_path}, artifacts) as running:
        gold = GoldSet(Path(gold_path))
        if prompts_path:
            prompts = read_records(Path(prompts_path) / "prompts.jsonl", Prompt)
        else:
            count = plan.template_clips_per_gold
            prompts = [
                p
                for replicate in plan.replicates
                for p in template_prompts(gold.train(replicate), replicate, count, LOSERS.name)
            ]
        check_prompts(prompts, gold.clips)
        sources, lost = find_starts(prompts, plan, gold, Path(retrieved_path) if retrieved_path else None)
        if lost:
            event(log, "no_start", clips=len(lost), hint="the corpus holds no clip of any label")
            prompts = [prompt for prompt in prompts if prompt.prompt_id not in lost]
        target = Path(synthetic_path)
        if not prompts:
            write_provenance(target, ())
            copy_audio_folder(target, (), {})
            running.record({"clips": 0})
            return running.figures
        running.verify({"t2a": t2a_path, "aligned": aligned_path})
        models = _models(plan, prompts, Path(t2a_path), Path(aligned_path) if aligned_path else None)
        for label in gold.labels:
            if words := spelled_words(Path(t2a_path) / "tokenizer", label):
                event(
                    log, "label_spelled", label=label, words=words, hint="unknown to the text encoder: read by letters"
                )
        # Imported here, so that a round without prompts does not import torch.
        from components.synthesize_audio.clips import publish
        from components.synthesize_audio.recording import with_recordings
        from components.synthesize_audio.synthesis import generate_missing, plan_requests

        store = ItemStore("synthesize_audio", code_version, scope=plan.scope)
        requests = plan_requests(prompts, gold, models, plan.settings, sources)
        requests = with_recordings(requests, _matched(plan, prompts), gold, plan.settings, store)
        made = generate_missing(requests, plan.settings, store)
        running.record({"new_clips": made["clips"], "sampled_clips": made["sampled"], "texts": made["encoded"]})
        signals, audio_s = publish(target, requests, plan, store, Path(t2a_path), gold.path, code_version)
        running.record({"clips": len(requests), "audio_s": round(audio_s, 3)})
        running.record({f"signal_{reason}": signals[reason] for reason in sorted(signals.keys() - {"ok"})})
    return running.figures


def _matched(plan: SynthesizeAudioPlan, prompts: Sequence[Prompt]) -> set[str]:
    """Ids of the prompts whose clips are matched to gold's recording conditions."""
    every = plan.settings.match_recording == "gold"
    recipes = ((prompt.prompt_id, recipe_of(prompt, plan.recipes)) for prompt in prompts)
    return {prompt_id for prompt_id, recipe in recipes if recipe.matched or (every and recipe.name != LOSERS.name)}


def _models(plan: SynthesizeAudioPlan, prompts: Sequence[Prompt], t2a: Path, aligned: Path | None) -> dict[str, Path]:
    """Map each prompt id to the folder of its model."""
    models = {}
    for prompt in prompts:
        alignment = recipe_of(prompt, plan.recipes).alignment
        if alignment == "none":
            models[prompt.prompt_id] = t2a
            continue
        path = aligned / str(prompt.replicate) / alignment if aligned else None
        if path is None or not path.is_dir():
            raise DataError(
                f"prompt {prompt.prompt_id!r} needs the model of alignment {alignment!r}, replicate "
                f"{prompt.replicate}, which is not at {path}; align_t2a must run with this alignment and replicate"
            )
        models[prompt.prompt_id] = path
    return models
