"""Reads the dataset, checks and splits it, writes gold clips, test clips and their health."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.config.dataset import DESCRIPTIVE, PrepareDatasetPlan
from common.contracts.base import read, write
from common.contracts.gold import Dataset, Replicate, Splits
from common.datasets.pushed import fetch_dataset
from common.datasets.registry import fingerprint
from common.log import event, get_logger
from common.records.audio_folder import copy_audio_folder
from common.records.clips import GoldClip
from common.runtime.parallel import cpu_count
from common.runtime.split_guard import mark_test_split
from common.runtime.stage import Figures, stage
from common.storage.items import ItemStore
from components.prepare_dataset.clips import Clip
from components.prepare_dataset.dataset import Reading, check_quality, limit_candidates, most_candidates, read_dataset
from components.prepare_dataset.health import data_health, test_health
from components.prepare_dataset.splitting import split_clips

log = get_logger("prepare_dataset")


def run(gold_path: str, test_path: str, metrics_path: str, *, config: dict[str, Any], code_version: str) -> Figures:
    """Read, check and split the dataset; arguments as in `component.py`.

    Raises:
        ConfigError: the number of training clips does not fit the data.
        DataError: the dataset cannot be read, has too many bad clips, or has too few clips of a class.
        StorageError: the disk is full; nothing is published then.
    """
    plan = PrepareDatasetPlan.model_validate(config)
    gold, test = Path(gold_path), Path(test_path)
    with stage("prepare_dataset", config, metrics_path, {"gold": gold_path, "test": test_path}) as running:
        folder, reading = _read(plan, code_version)
        check_quality(reading, plan.settings)
        splits = split_clips(reading.clips, reading.labels, plan.dataset, plan.settings, plan.n, plan.replicates)
        for notice in [*reading.notices, *splits.warnings]:
            event(log, "warning", code=notice.code, message=notice.message)
        for drop in [*reading.dropped, *splits.dropped, *splits.test_dropped]:
            event(log, "dropped", source=drop.source, reason=drop.reason, detail=drop.detail)
        used = {clip.clip_id: clip for clip in splits.oracle}
        for train, validation in splits.replicates.values():
            used |= {clip.clip_id: clip for clip in [*train, *validation]}
        rate = plan.settings.storage_sample_rate_hz
        _write_clips(gold, list(used.values()), reading.labels, folder, rate)
        mark_test_split(test)
        _write_clips(test, splits.test, reading.labels, folder, rate)
        replicates = {
            replicate: Replicate(train=[clip.clip_id for clip in train], val=[clip.clip_id for clip in validation])
            for replicate, (train, validation) in splits.replicates.items()
        }
        oracle = [clip.clip_id for clip in splits.oracle]
        write(gold / "splits.json", Splits(replicates=replicates, oracle=oracle, shared_gold=splits.shared))
        health = data_health(reading, splits)
        write(gold / "health.json", health)
        told = plan.dataset.model_dump(include={"name", "domain", "licence", "reader", "test", "multi_label"})
        write(gold / "dataset.json", Dataset(**told, n=plan.n))
        write(test / "health.json", test_health(reading, splits))
        running.record({f"clips_{name}": count for name, count in health.counts.items()})
        running.record({"classes": len(reading.labels), "warnings": len(health.warnings)})
    return running.figures


def _read(plan: PrepareDatasetPlan, code_version: str) -> tuple[Path, Reading]:
    """Folder of decoded clips, and their facts; from the store if the files have not changed."""
    settings = plan.settings
    store = ItemStore("prepare_dataset", code_version, scope=plan.scope)
    most = most_candidates(settings, plan.n)

    def make(folder: Path) -> None:
        (folder / "clips").mkdir()
        scratch = store.scratch_dir(pushed=plan.dataset.pushed)
        dataset = fetch_dataset(plan.dataset, scratch, lambda rows: limit_candidates(rows, plan.dataset, most))
        reading = read_dataset(dataset, settings, folder / "clips", cpu_count(), plan.n)
        write(folder / "reading.json", reading)

    folder = store.get_or_make(
        make,
        files=fingerprint(plan.dataset),
        dataset=plan.dataset.model_dump(mode="json", exclude={"n", "test", *DESCRIPTIVE}),
        rate=settings.storage_sample_rate_hz,
        channels=settings.channels,
        longest=settings.max_duration_s,
        shortest=settings.min_duration_s,
        silence=settings.silence_dbfs,
        most=most,
    )
    return folder / "clips", read(Reading, folder / "reading.json")


def _write_clips(target: Path, clips: Sequence[Clip], labels: list[str], folder: Path, rate: int) -> None:
    """Write clips as an AudioFolder with records and `labels.json`; the audio comes from `folder`."""
    index = {label: number for number, label in enumerate(labels)}
    records = [
        GoldClip(
            file_name=f"{clip.clip_id}.flac",
            clip_id=clip.clip_id,
            label=clip.label,
            label_id=index[clip.label],
            further_labels=clip.further_labels,
            group=clip.group,
            source=clip.source,
            duration_s=clip.duration_s,
            sample_rate_hz=rate,
        )
        for clip in sorted(clips, key=lambda clip: clip.clip_id)
    ]
    copy_audio_folder(target, records, {clip.clip_id: folder / f"{clip.clip_id}.flac" for clip in clips})
    write(target / "labels.json", labels)
