"""Output folders of the stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.config.dataset import PrepareDatasetPlan
from common.records.audio_folder import copy_audio_folder
from common.records.clips import GoldClip
from common.storage import write_json
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
    write_json(target / "labels.json", labels)


def splits_json(splits: Splits) -> dict[str, Any]:
    """Content of splits.json: clip ids by replicate and split, those of the oracle, and `shared_gold`."""
    replicates = {
        str(seed): {"train": [clip.clip_id for clip in train], "val": [clip.clip_id for clip in validation]}
        for seed, (train, validation) in splits.replicates.items()
    }
    oracle = [clip.clip_id for clip in splits.oracle]
    return {"replicates": replicates, "oracle": oracle, "shared_gold": splits.shared}


def dataset_json(plan: PrepareDatasetPlan) -> dict[str, Any]:
    """Content of dataset.json: facts about the dataset for later stages."""
    # Paths are left out: they differ between machines, and the report must not depend on that.
    kept = plan.dataset.model_dump(mode="json", include={"name", "domain", "licence", "reader", "test"})
    return {**kept, "n": plan.n, **({"multi_label": True} if plan.dataset.multi_label else {})}
