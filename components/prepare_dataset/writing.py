"""Output folders of the stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.config.dataset import PrepareDatasetPlan
from common.contracts import gold as contract
from common.contracts.base import write
from common.records.audio_folder import copy_audio_folder
from common.records.clips import GoldClip
from components.prepare_dataset.clips import Clip
from components.prepare_dataset.splits import Splits


def write_clips(target: Path, clips: Sequence[Clip], labels: list[str], folder: Path, plan: PrepareDatasetPlan) -> None:
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
            sample_rate_hz=plan.settings.storage_sample_rate_hz,
        )
        for clip in sorted(clips, key=lambda clip: clip.clip_id)
    ]
    copy_audio_folder(target, records, {clip.clip_id: folder / f"{clip.clip_id}.flac" for clip in clips})
    write(target / "labels.json", labels)


def split_ids(splits: Splits) -> contract.Splits:
    """Content of splits.json."""
    replicates = {
        replicate: contract.Replicate(train=[clip.clip_id for clip in train], val=[clip.clip_id for clip in validation])
        for replicate, (train, validation) in splits.replicates.items()
    }
    oracle = [clip.clip_id for clip in splits.oracle]
    return contract.Splits(replicates=replicates, oracle=oracle, shared_gold=splits.shared)


def dataset_facts(plan: PrepareDatasetPlan) -> contract.Dataset:
    """Content of dataset.json."""
    told = plan.dataset.model_dump(include={"name", "domain", "licence", "reader", "test", "multi_label"})
    return contract.Dataset(**told, n=plan.n)
