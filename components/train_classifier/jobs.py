"""Jobs: one training as an item of the store, with its key and its execution."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.classifier.inference import embeddings, feature_logits, probabilities, set_last_layer
from common.classifier.model import Classifier, load_classifier, save_classifier, with_fresh_head
from common.config.augmentations import AUGMENTATIONS
from common.config.base import OptimConfig
from common.config.train_classifier import TrainClassifierConfig
from common.contracts.base import write
from common.contracts.training import Slot, Training
from common.learners.calibration import cross_entropy
from common.learners.front_ends import recorded_copies
from common.learners.linear import fit_logistic
from common.log import event, get_logger
from common.records.audio_folder import load_clip
from common.records.clips import SyntheticClip
from common.runtime.devices import device
from common.runtime.seeding import derive_seed
from common.runtime.work import Task, obtain
from common.storage import write_json
from common.storage.items import ItemStore
from components.train_classifier.budget import Budget, make_budget
from components.train_classifier.clips import ClipSet
from components.train_classifier.contrastive import train_body
from components.train_classifier.learner_job import Pretrained, opened
from components.train_classifier.training import Examples, selection_figure, train
from components.train_classifier.waveform import Backgrounds, augmented_copies, load_backgrounds

MODEL = "model"
RESULT = "result.json"
SECONDS = "seconds.json"
"""Seconds that the training took; after a kill, since it went on."""
VALIDATION, SPLITS = "validation.npy", "splits.npz"
"""(conditions, N, labels) probabilities of the N validation clips: as they are, then as each recorded copy."""
LEAST_LOGIT = 5.0

log = get_logger("train_classifier")


@dataclass(frozen=True)
class Job:
    """One training with everything it depends on.

    Attributes:
        synthetic: clips that may fill the slot.
        validation: clips that decide the checkpoint; None = keep the last one.
        settings: the recipe but for `optim`, which holds the number of steps.
        probe_first: whether the head starts as a logistic regression on frozen features, instead of at random.
    """

    name: str
    seed: int
    base: Pretrained
    labels: tuple[str, ...]
    multi_label: bool
    gold: ClipSet
    synthetic: ClipSet
    validation: ClipSet | None
    classic: str
    strength: float | str | None
    optim: OptimConfig
    settings: TrainClassifierConfig
    store: ItemStore
    backgrounds: Backgrounds | None = None
    probe_first: bool = False

    def key(self) -> dict[str, object]:
        """Store key of the item; settings of unused augmentations are left out."""
        apart = {"optim", "recipe", "oracle_steps", *AUGMENTATIONS, "specaugment", "learners"}
        shared = self.settings.model_dump(mode="json", exclude=apart)
        used = {}
        if self.classic != "none":
            chosen = getattr(self.settings, self.classic)
            used = chosen.model_dump(mode="json", exclude={"strengths", "combinations"})
            if isinstance(self.strength, str):
                used["combination"] = chosen.combinations[self.strength].model_dump(mode="json")
            if self.backgrounds is not None:
                used["backgrounds"] = self.backgrounds.identity
        return {
            "base": self.base.key,
            "labels": self.labels,
            "multi_label": self.multi_label,
            "seed": self.seed,
            "gold": self.gold.identity,
            "synthetic": self.synthetic.identity,
            "validation": self.validation.identity if self.validation else None,
            "classic": self.classic,
            "strength": self.strength,
            "augmentation": used,
            "optim": self.optim.model_dump(mode="json"),
            "settings": shared,
            **({"probe_first": self.settings.learners.inverse_penalties} if self.probe_first else {}),
        }

    def contrastive_key(self) -> dict[str, object]:
        """Store key of the contrastively trained body, which all augmentations share."""
        config = self.settings.contrastive
        kept = ("base", "labels", "multi_label", "seed", "gold", "synthetic")
        key = self.key()
        return {**{name: key[name] for name in kept}, "contrastive": config and config.model_dump(mode="json")}

    def examples(self, gold: Sequence[Sequence[Tensor]], synthetic: Sequence[Sequence[Tensor]]) -> Examples:
        """Combine features (variants of each clip) of gold and synthetic clips with their labels, gold first."""
        targets = [clips.targets(len(self.labels)) for clips in (self.gold, self.synthetic)]
        labels = np.concatenate([self.gold.labels, self.synthetic.labels])
        return Examples([*gold, *synthetic], labels, np.concatenate(targets) if self.multi_label else None)


def contrastive_body(job: Job) -> Task:
    """Training of the body that the job starts from; its item has `model/` and `result.json`."""
    return Task(job.store, job.contrastive_key(), partial(_make_body, job))


def training(job: Job) -> Task:
    """Training of the job; its item has `model/`, `result.json` and, with validation clips, `validation.npy`."""
    return Task(job.store, job.key(), partial(_make, job))


def _make(job: Job, folder: Path) -> None:
    start = time.monotonic()
    body = load_classifier(obtain(contrastive_body(job)) / MODEL) if job.settings.contrastive else opened(job.base)
    classifier = _fresh(job, body)
    examples = job.examples(_variants(job, job.gold), _variants(job, job.synthetic))
    if job.probe_first:
        fit_head(classifier, examples, len(job.gold.clips), _validation(job), job.settings.learners.inverse_penalties)
    budget = make_budget(
        job.gold.labels,
        job.synthetic.labels,
        steps=job.optim.steps,
        batch_size=job.optim.batch_size,
        synthetic_fraction=job.settings.synthetic_fraction,
        seed=job.seed,
    )
    masks = job.strength if job.classic == "specaugment" else None
    result = train(
        classifier,
        examples,
        _validation(job),
        budget,
        job.optim,
        select_by=selection_figure(job.settings.select_by, job.multi_label),
        specaugment=(job.settings.specaugment, masks) if isinstance(masks, float) else None,
        mixup_alpha=job.settings.mixup_alpha,
        recording=job.settings.recording,
        seed=derive_seed(job.seed, "steps"),
        checkpoints=job.store.checkpoints(**job.key()),
    )
    if job.validation is not None:
        heard = [feature_logits(classifier, clips) for clips in _recorded(job.base, job.validation)]
        np.save(folder / VALIDATION, probabilities(torch.stack(heard).cpu().numpy(), job.multi_label))
    classifier.model.to("cpu")
    save_classifier(classifier, folder / MODEL)
    write_json(folder / SECONDS, time.monotonic() - start)
    write(folder / RESULT, _figures(job, budget, result))
    shown = ("val_accuracy", "val_map", "best_step")
    event(log, "trained", name=job.name, **{key: result[key] for key in shown if key in result})


def _make_body(job: Job, folder: Path) -> None:
    config = job.settings.contrastive
    assert config is not None
    classifier = _fresh(job, opened(job.base))
    clean = [[[f] for f in _features(job.base, clips)] for clips in (job.gold, job.synthetic)]
    places = {clip.clip_id: index for index, clip in enumerate(job.gold.clips)}
    synthetic = [clip for clip in job.synthetic.clips if isinstance(clip, SyntheticClip)]
    sources = np.array([places.get(clip.source_clip_id, -1) for clip in synthetic], dtype=np.int64)
    curve = train_body(
        classifier,
        job.examples(clean[0], clean[1]),
        len(job.gold.clips),
        sources,
        config,
        seed=derive_seed(job.seed, "contrastive"),
        checkpoints=job.store.checkpoints(**job.contrastive_key()),
    )
    classifier.model.to("cpu")
    save_classifier(classifier, folder / MODEL)
    write_json(folder / RESULT, {"curve": curve})


def _fresh(job: Job, body: Classifier) -> Classifier:
    made = with_fresh_head(body, job.labels, derive_seed(job.seed, "head"), job.multi_label, job.base.window_s)
    made.model.to(device())
    return made


def _figures(job: Job, budget: Budget, result: Mapping[str, Any]) -> Training:
    synthetic = int((budget.slot >= len(job.gold.clips)).sum())
    without = sorted(set(job.gold.labels.tolist()) - set(job.synthetic.labels.tolist()))
    return Training(
        steps=job.optim.steps,
        examples=budget.examples,
        classic=job.classic,
        strength=job.strength,
        gold_clips=len(job.gold.clips),
        synthetic_clips=len(job.synthetic.clips),
        slot=Slot(synthetic=synthetic, gold=int(budget.slot.size) - synthetic),
        gold_stands_in_for=[job.labels[label] for label in without] if job.synthetic.clips else [],
        **result,
    )


def _validation(job: Job) -> Examples | None:
    if job.validation is None:
        return None
    features = _features(job.base, job.validation)
    targets = job.validation.targets(len(job.labels)) if job.multi_label else None
    return Examples([[clip] for clip in features], job.validation.labels, targets)


def _variants(job: Job, clips: ClipSet) -> list[list[Tensor]]:
    """Features of each clip, followed by those of its augmented copies when the job augments waveforms."""
    clean = _features(job.base, clips)
    if job.classic == "none" or job.classic == "specaugment" or job.strength is None:
        return [[features] for features in clean]
    front_end = opened(job.base).front_end
    backgrounds = load_backgrounds(job.backgrounds, front_end.sample_rate_hz) if job.backgrounds else ()
    variants = []
    for clip, features in zip(clips.clips, clean, strict=True):
        waveform = load_clip(clips.folder, clip, front_end.sample_rate_hz)
        copies = augmented_copies(
            getattr(job.settings, job.classic),
            waveform,
            front_end.sample_rate_hz,
            job.strength,
            job.seed,
            clip.clip_id,
            backgrounds,
        )
        variants.append([features, *front_end(copies)])
    return variants


def fit_head(
    classifier: Classifier,
    examples: Examples,
    gold_clips: int,
    validation: Examples | None,
    inverse_penalties: Sequence[float],
) -> None:
    """Replace the last layer of `classifier` by a logistic regression on the frozen features of the gold clips.

    Fine-tuning then starts from a probe: first the head, then all layers (LP-FT, arXiv 2202.10054). A random head pulls
    good features apart before it has learnt anything. Every method starts from the same head. The loss of `validation`
    chooses among `inverse_penalties` (scikit-learn's C); without it the middle one is taken.
    """
    multi_label = classifier.multi_label

    def heard(clips: Examples, count: int) -> tuple[np.ndarray, np.ndarray]:
        clean = [variants[0] for variants in clips.features[:count]]
        return embeddings(classifier, clean), clips.matrix(len(classifier.labels))[:count]

    features, targets = heard(examples, gold_clips)
    fitted = [fit_logistic(features, targets, np.ones(gold_clips), c, multi_label) for c in inverse_penalties]
    best = fitted[len(fitted) // 2]
    if validation is not None:
        unseen, truth = heard(validation, len(validation.features))
        best = min(
            fitted, key=lambda head: cross_entropy(probabilities(head.logits(unseen), multi_label), truth, multi_label)
        )
    weight, bias = best.folded()
    # A label that no gold clip has may have synthetic ones: its logit is low, not out of reach.
    absent = ~weight.any(axis=1)
    set_last_layer(classifier, weight, np.where(absent, np.clip(bias, -LEAST_LOGIT, LEAST_LOGIT), bias))


# Caches of what successive jobs of one process share; the keys include content hashes, so entries never become stale.
@lru_cache(maxsize=6)
def _features(base: Pretrained, clips: ClipSet) -> tuple[Tensor, ...]:
    front_end = opened(base).front_end
    return tuple(front_end([load_clip(clips.folder, clip, front_end.sample_rate_hz) for clip in clips.clips]))


@lru_cache(maxsize=2)
def _recorded(base: Pretrained, clips: ClipSet) -> tuple[tuple[Tensor, ...], ...]:
    """Features of the clips as they are, then of each of their recorded copies."""
    front_end = opened(base).front_end
    rate = front_end.sample_rate_hz
    copies = [recorded_copies(load_clip(clips.folder, clip, rate), rate, clip.clip_id) for clip in clips.clips]
    changed = (tuple(front_end(list(each))) for each in zip(*copies, strict=True))
    return (_features(base, clips), *changed)
