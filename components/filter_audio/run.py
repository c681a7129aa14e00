"""Reads a round's clips, filters each replicate, writes accepted and rejected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.config.clap import FilterAudioPlan
from common.errors import DataError
from common.hashing import hash_dir, hash_file, hash_json
from common.items import ItemStore
from common.log import event, get_logger
from common.parallel import run_items
from common.records import SyntheticClip, read_records
from common.stage import model_time, stage
from common.storage import read_json, write_json
from components.filter_audio.folders import audio_file, read_sorted, write_clips, write_embeddings
from components.filter_audio.summary import reason_counts, summarize

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
) -> dict[str, float | int | str]:
    """Filter one round; see `component.py` for the arguments.

    Returns:
        Counts of accepted and rejected clips, the latter by reason too.
    """
    plan = FilterAudioPlan.model_validate(config)
    with stage("filter_audio", config, metrics_path, {"accepted": accepted_path, "rejected": rejected_path}) as running:
        synthetic, accepted = Path(synthetic_path), Path(accepted_path)
        previous = Path(previous_path) if previous_path else None
        clips = read_sorted(synthetic)
        before = read_sorted(previous) if previous else []
        items = _filter(plan, clips, before, synthetic, Path(gold_path), Path(clap_path), previous, code_version)
        decided = [clip for item in items.values() for clip in read_records(item / "clips.jsonl", SyntheticClip)]
        figures = {seed: read_json(item / "replicate.json") for seed, item in items.items()}
        account = summarize(read_json(previous / "filter.json") if previous else None, decided, figures)
        kept = [clip for clip in decided if clip.reason is None]
        sources = {clip.clip_id: synthetic for clip in clips}
        sources |= {clip.clip_id: previous for clip in before if previous}
        write_clips(accepted, [*before, *kept], sources)
        write_clips(Path(rejected_path), [clip for clip in decided if clip.reason is not None], sources)
        write_embeddings(accepted, before, previous, items)
        write_json(accepted / "filter.json", account)
        for empty in account["empty_classes"]:
            log.warning("event=class_without_clips hint='it is trained on gold alone' %s", empty)
        running.record({"accepted": len(kept), "rejected": len(decided) - len(kept)})
        running.record({"accepted_total": len(before) + len(kept), "empty_classes": len(account["empty_classes"])})
        running.record({f"rejected_{reason}": count for reason, count in reason_counts(decided).items()})
    return running.figures


def _filter(
    plan: FilterAudioPlan,
    clips: list[SyntheticClip],
    before: list[SyntheticClip],
    synthetic: Path,
    gold: Path,
    clap: Path,
    previous: Path | None,
    code_version: str,
) -> dict[int, Path]:
    """The finished item of every seed that has clips this round."""
    strangers = {clip.seed for clip in clips} - set(plan.seeds)
    if strangers:
        raise DataError(f"{synthetic}: clips of seeds {sorted(strangers)}; this run has {sorted(plan.seeds)}")
    seeds = [seed for seed in plan.seeds if any(clip.seed == seed for clip in clips)]
    if not seeds:
        event(log, "nothing_to_filter")
        return {}
    # A round with nothing to do must not pay for importing torch.
    from components.filter_audio.replicate import Replicate, filter_replicate

    def content(folder: Path, some: list[SyntheticClip]) -> str:
        return hash_json([[clip.model_dump(), hash_file(audio_file(folder, clip))] for clip in some])

    store, gold_hash = ItemStore("filter_audio", code_version), hash_dir(gold)
    jobs = []
    for seed in seeds:
        own, earlier = ([clip for clip in group if clip.seed == seed] for group in (clips, before))
        key = {
            "seed": seed,
            "settings": plan.settings.model_dump(),
            "gold": gold_hash,
            "clap": hash_dir(clap / str(seed)),
            "recipes": {recipe.name: recipe.filter for recipe in plan.recipes},
            "clips": content(synthetic, own),
            "previous": content(previous, earlier) if previous else "",
        }
        folders = (synthetic, gold, clap / str(seed), previous)
        jobs.append(Replicate(seed, plan, tuple(own), tuple(earlier), *folders, store=store, key=key))
    with model_time():
        results = dict(run_items(filter_replicate, jobs))
    for result in results.values():
        if isinstance(result, BaseException):
            raise result
    return {job.seed: job.store.path(**job.key) for job in jobs}
