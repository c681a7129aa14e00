"""Reads the clips of a round, filters each replicate, writes accepted and rejected clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common.config.clap import FilterAudioPlan
from common.contracts.base import read, write
from common.contracts.generation import FilterAccount, FilterFigures
from common.errors import DataError
from common.log import event, get_logger
from common.records.clips import SyntheticClip
from common.runtime.stage import Figures, stage
from common.runtime.work import obtain_all
from common.storage.artifacts import artifact_hash
from common.storage.items import ItemStore
from components.filter_audio.candidates import Decision
from components.filter_audio.folders import Listing, read_decisions, write_clips, write_embeddings
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
        accepted = Path(accepted_path)
        clips = Listing(Path(synthetic_path))
        before = Listing(Path(previous_path)) if previous_path else None
        running.verify({"gold": gold_path, "clap": clap_path} if clips.clips else {})
        items = _filter(plan, clips, before, Path(gold_path), Path(clap_path), code_version)
        decisions = {decision.clip_id: decision for item in items.values() for decision in read_decisions(item)}
        figures = {replicate: read(FilterFigures, item / "replicate.json") for replicate, item in items.items()}
        account = summarize(
            read(FilterAccount, before.folder / "filter.json") if before else None, _decided(clips, decisions), figures
        )
        sets = [(clips, _decided(clips, decisions, lambda decision: decision.reason is None))]
        write_clips(accepted, *([(before, iter(before))] if before else []), *sets)
        write_clips(
            Path(rejected_path), (clips, _decided(clips, decisions, lambda decision: decision.reason is not None))
        )
        write_embeddings(accepted, before, items)
        write(accepted / "filter.json", account)
        for empty in account.empty_classes:
            log.warning("class_without_clips hint='it is trained on gold alone' %s", dict(empty))
        told, total = account.rounds[-1], sum(each.accepted for each in account.rounds)
        running.record({"accepted": told.accepted, "rejected": told.rejected})
        running.record({"accepted_total": total, "empty_classes": len(account.empty_classes)})
        running.record({f"rejected_{reason}": count for reason, count in told.reasons.items()})
    return running.figures


def _decided(
    clips: Listing, decisions: dict[str, Decision], wanted: Callable[[Decision], bool] = lambda _: True
) -> Iterator[SyntheticClip]:
    """Records with their decisions, read one by one; only those whose decision is `wanted`."""
    for clip in clips:
        decision = decisions[clip.clip_id]
        if wanted(decision):
            yield decision.on(clip)


def _filter(
    plan: FilterAudioPlan, clips: Listing, before: Listing | None, gold: Path, clap: Path, code_version: str
) -> dict[int, Path]:
    """Finished item of every replicate that has clips in this round."""
    strangers = {clip.replicate for clip in clips.clips} - set(plan.replicates)
    if strangers:
        raise DataError(
            f"{clips.folder}: clips of replicates {sorted(strangers)}; this run has {sorted(plan.replicates)}"
        )
    replicates = [
        replicate for replicate in plan.replicates if any(clip.replicate == replicate for clip in clips.clips)
    ]
    if not replicates:
        event(log, "nothing_to_filter")
        return {}
    # Imported here, so that a round with nothing to do does not load torch.
    from components.filter_audio.replicate import Replicate

    store, gold_hash = ItemStore("filter_audio", code_version, scope=plan.scope), artifact_hash(gold)
    works = {}
    for replicate in replicates:
        own, earlier = (
            tuple(clip for clip in listing.clips if clip.replicate == replicate) if listing else ()
            for listing in (clips, before)
        )
        key = {
            "replicate": replicate,
            "settings": plan.settings.model_dump(),
            "gold": gold_hash,
            "clap": artifact_hash(clap / str(replicate)),
            "recipes": {recipe.name: recipe.filter for recipe in plan.recipes},
            "clips": clips.content(replicate),
            "previous": before.content(replicate) if before else "",
        }
        folders = (clips.folder, gold, clap / str(replicate), before.folder if before else None)
        works[replicate] = Replicate(replicate, plan, own, earlier, *folders, store=store, key=key)
    return obtain_all(works)
