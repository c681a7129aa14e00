"""Reads the clips of a round, filters each replicate, writes accepted and rejected clips."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.config.clap import FilterAudioPlan
from common.contracts.base import read, write
from common.contracts.generation import FilterAccount, FilterFigures
from common.errors import DataError
from common.log import event, get_logger
from common.records.audio_folder import clips_hash
from common.records.clips import SyntheticClip
from common.runtime.stage import Figures, stage
from common.runtime.work import obtain_all
from common.storage.artifacts import artifact_hash
from common.storage.items import ItemStore
from components.filter_audio.folders import read_decided, sorted_clips, write_clips, write_embeddings
from components.filter_audio.summary import summarize

log = get_logger("filter_audio")


def run(
    synthetic_path: str,
    gold_path: str,
    clap_path: str,
    accepted_path: str,
    rejected_path: str,
    metrics_path: str,
    *,
    config: dict[str, Any],
    code_version: str,
    previous_path: str | None = None,
) -> Figures:
    """Filter one round; arguments as in `component.py`.

    Returns counts of accepted and rejected clips, the latter also by reason.
    """
    plan = FilterAudioPlan.model_validate(config)
    artifacts = {"synthetic": synthetic_path, "previous": previous_path}
    outputs = {"accepted": accepted_path, "rejected": rejected_path}
    with stage("filter_audio", config, metrics_path, outputs, artifacts) as running:
        accepted, synthetic = Path(accepted_path), Path(synthetic_path)
        previous = Path(previous_path) if previous_path else None
        clips, earlier = sorted_clips(synthetic), sorted_clips(previous) if previous else []
        running.verify({"gold": gold_path, "clap": clap_path} if clips else {})
        folders = synthetic, Path(gold_path), Path(clap_path), previous
        items = _filter(plan, clips, earlier, *folders, code_version)
        decided = (clip for item in items.values() for clip in read_decided(item))
        clips = sorted(decided, key=lambda clip: clip.clip_id)
        figures = {replicate: read(FilterFigures, item / "replicate.json") for replicate, item in items.items()}
        account = summarize(read(FilterAccount, previous / "filter.json") if previous else None, clips, figures)
        before = {previous: earlier} if previous else {}
        write_clips(accepted, before | {synthetic: [clip for clip in clips if clip.reason is None]})
        write_clips(Path(rejected_path), {synthetic: [clip for clip in clips if clip.reason is not None]})
        write_embeddings(accepted, previous, earlier, items)
        write(accepted / "filter.json", account)
        for empty in account.empty_classes:
            log.warning("class_without_clips hint='it is trained on gold alone' %s", dict(empty))
        told, total = account.rounds[-1], sum(each.accepted for each in account.rounds)
        running.record({"accepted": told.accepted, "rejected": told.rejected})
        running.record({"accepted_total": total, "empty_classes": len(account.empty_classes)})
        running.record({f"rejected_{reason}": count for reason, count in told.reasons.items()})
    return running.figures


def _filter(
    plan: FilterAudioPlan,
    clips: Sequence[SyntheticClip],
    earlier: Sequence[SyntheticClip],
    synthetic: Path,
    gold: Path,
    clap: Path,
    previous: Path | None,
    code_version: str,
) -> dict[int, Path]:
    """Finished item of every replicate that has clips in this round."""
    found = {clip.replicate for clip in clips}
    if strangers := found - set(plan.replicates):
        raise DataError(f"{synthetic}: clips of replicates {sorted(strangers)}; this run has {sorted(plan.replicates)}")
    if not found:
        event(log, "nothing_to_filter")
        return {}
    # Imported here, so that a round with nothing to do does not load torch.
    from components.filter_audio.replicate import Replicate

    store, gold_hash = ItemStore("filter_audio", code_version, scope=plan.scope), artifact_hash(gold)
    works = {}
    for replicate in (each for each in plan.replicates if each in found):
        own, before = (tuple(clip for clip in every if clip.replicate == replicate) for every in (clips, earlier))
        key = {
            "replicate": replicate,
            "settings": plan.settings.model_dump(),
            "gold": gold_hash,
            "clap": artifact_hash(clap / str(replicate)),
            "recipes": {recipe.name: recipe.filter for recipe in plan.recipes},
            "clips": clips_hash(synthetic, own),
            "previous": clips_hash(previous, before) if previous else "",
        }
        folders = synthetic, gold, clap / str(replicate), previous
        works[replicate] = Replicate(replicate, plan, own, before, *folders, store=store, key=key)
    return obtain_all(works)
