"""One training as an item of the store: what it is made from, and making it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.audio_folder import load_clip
from common.checkpoints import Checkpoints
from common.classifier.model import Classifier, load_classifier, save_classifier, with_fresh_head
from common.config.base import OptimConfig
from common.config.classifier import TrainClassifierConfig
from common.hashing import hash_file
from common.items import ItemStore
from common.log import event, get_logger
from common.records import GoldClip, SyntheticClip
from common.seeding import derive_seed
from common.storage import read_json, write_json
from components.train_classifier.budget import Budget, make_budget
from components.train_classifier.candidates import Augmentation
from components.train_classifier.noise import noisy_copies
from components.train_classifier.training import Examples, train

MODEL = "model"
RESULT = "result.json"

log = get_logger("train_classifier")


@dataclass(frozen=True)
class ClipSet:
    """Clips of one AudioFolder; equal when ids and audio are.

    Attributes:
        identity: (clip id, SHA-256 of the file, label id) of each clip.
        folder: of the artifact.
        clips: their records.
    """

    identity: tuple[tuple[str, str, int], ...]
    folder: Path = field(compare=False)
    clips: tuple[GoldClip | SyntheticClip, ...] = field(compare=False)

    @property
    def labels(self) -> np.ndarray:
        """(clips,) label ids."""
        return np.array([clip.label_id for clip in self.clips], dtype=np.int64)

    def first(self, factor: int | None) -> ClipSet:
        """Of synthetic clips the first `factor` of each gold clip; None = all."""
        chosen = [
            place
            for place, clip in enumerate(self.clips)
            if factor is None or not isinstance(clip, SyntheticClip) or clip.index < factor
        ]
        if len(chosen) == len(self.clips):
            return self
        return ClipSet(tuple(self.identity[i] for i in chosen), self.folder, tuple(self.clips[i] for i in chosen))


def clip_set(folder: Path, clips: Sequence[GoldClip] | Sequence[SyntheticClip]) -> ClipSet:
    """The set of `clips`, whose audio lies in the AudioFolder at `folder`."""
    identity = tuple((clip.clip_id, hash_file(folder / "clips" / clip.file_name), clip.label_id) for clip in clips)
    return ClipSet(identity, folder, tuple(clips))


@dataclass(frozen=True)
class Job:
    """One training with all that it depends on.

    Attributes:
        name: for log lines.
        seed: the replicate.
        base_dir: directory of the pretrained classifier.
        base_hash: of its content.
        labels: label strings by label id.
        gold: clips of the gold stream.
        synthetic: clips that may fill the slot.
        validation: None = the last checkpoint is kept.
        classic: augmentation of all examples, at `strength`.
        optim: optimiser with the number of steps.
        settings: the rest of the recipe.
        store: keeps the item.
    """

    name: str
    seed: int
    base_dir: Path
    base_hash: str
    labels: tuple[str, ...]
    gold: ClipSet
    synthetic: ClipSet
    validation: ClipSet | None
    classic: Augmentation
    strength: float | None
    optim: OptimConfig
    settings: TrainClassifierConfig
    store: ItemStore

    def key(self) -> dict[str, Any]:
        """What the item is made from; settings of augmentations that it does not use stay out."""
        shared = self.settings.model_dump(mode="json", exclude={"optim", "oracle_steps", "noise", "specaugment"})
        used = {
            "none": {},
            "noise": self.settings.noise.model_dump(exclude={"strengths"}),
            "specaugment": self.settings.specaugment.model_dump(exclude={"strengths"}),
        }[self.classic]
        return {
            "base": self.base_hash,
            "labels": self.labels,
            "seed": self.seed,
            "gold": self.gold.identity,
            "synthetic": self.synthetic.identity,
            "validation": self.validation.identity if self.validation else None,
            "classic": self.classic,
            "strength": self.strength,
            "augmentation": used,
            "optim": self.optim.model_dump(mode="json"),
            "settings": shared,
        }


def run_job(job: Job) -> Path:
    """Make the job's item, or find it: `model/` and `result.json`."""
    key = job.key()
    made = job.store.get_or_make(lambda folder: _make(job, folder, job.store.checkpoints(**key)), **key)
    job.store.checkpoints(**key).clear()
    return made


def read_result(item: Path) -> dict[str, Any]:
    """The figures of a finished job."""
    result: dict[str, Any] = read_json(item / RESULT)
    return result


def _make(job: Job, folder: Path, checkpoints: Checkpoints) -> None:
    classifier = with_fresh_head(_pretrained(job.base_dir, job.base_hash), job.labels, derive_seed(job.seed, "head"))
    classifier.model.to("cuda" if torch.cuda.is_available() else "cpu")
    gold, synthetic = _variants(job, job.gold), _variants(job, job.synthetic)
    examples = Examples([*gold, *synthetic], np.concatenate([job.gold.labels, job.synthetic.labels]))
    budget = make_budget(
        job.gold.labels,
        job.synthetic.labels,
        steps=job.optim.steps,
        batch_size=job.optim.batch_size,
        synthetic_fraction=job.settings.synthetic_fraction,
        cool_down=job.settings.cool_down,
        balanced=job.settings.class_balanced,
        seed=job.seed,
    )
    result = train(
        classifier,
        examples,
        _validation(job),
        budget,
        job.optim,
        slot_weight=job.settings.slot_weight,
        select_by=job.settings.select_by,
        specaugment=_specaugment(job),
        seed=derive_seed(job.seed, "steps"),
        checkpoints=checkpoints,
    )
    classifier.model.to("cpu")
    save_classifier(classifier, folder / MODEL)
    write_json(folder / RESULT, {**_budget_figures(job, budget), **result})
    event(log, "trained", name=job.name, **{key: result[key] for key in ("val_accuracy", "best_step") if key in result})


def _budget_figures(job: Job, budget: Budget) -> dict[str, Any]:
    synthetic = int((budget.slot >= len(job.gold.clips)).sum())
    without = sorted(set(job.gold.labels.tolist()) - set(job.synthetic.labels.tolist()))
    return {
        "steps": job.optim.steps,
        "examples": budget.examples,
        "classic": job.classic,
        "strength": job.strength,
        "gold_clips": len(job.gold.clips),
        "synthetic_clips": len(job.synthetic.clips),
        "slot": {"synthetic": synthetic, "gold": int(budget.slot.size) - synthetic},
        "gold_stands_in_for": [job.labels[label] for label in without] if job.synthetic.clips else [],
    }


def _specaugment(job: Job) -> Any:
    return (job.settings.specaugment, job.strength) if job.classic == "specaugment" else None


def _validation(job: Job) -> Examples | None:
    if job.validation is None:
        return None
    features = _features(job.base_dir, job.base_hash, job.validation)
    return Examples([[clip] for clip in features], job.validation.labels)


def _variants(job: Job, clips: ClipSet) -> list[list[Tensor]]:
    """Per clip: its features, then those of its noisy copies when noise is the job's augmentation."""
    clean = _features(job.base_dir, job.base_hash, clips)
    if job.classic != "noise" or job.strength is None:
        return [[features] for features in clean]
    log_mel = _pretrained(job.base_dir, job.base_hash).log_mel
    noise = job.settings.noise
    variants = []
    for clip, features in zip(clips.clips, clean, strict=True):
        waveform = load_clip(clips.folder, clip, log_mel.sample_rate_hz)
        copies = noisy_copies(waveform, noise.copies, job.strength, noise.span_db, job.seed, clip.clip_id)
        variants.append([features, *log_mel(copies)])
    return variants


# The caches hold what successive jobs of one process share; keys are content, so nothing goes stale.
@lru_cache(maxsize=1)
def _pretrained(base_dir: Path, base_hash: str) -> Classifier:
    return load_classifier(base_dir)


@lru_cache(maxsize=6)
def _features(base_dir: Path, base_hash: str, clips: ClipSet) -> tuple[Tensor, ...]:
    log_mel = _pretrained(base_dir, base_hash).log_mel
    return tuple(log_mel([load_clip(clips.folder, clip, log_mel.sample_rate_hz) for clip in clips.clips]))
