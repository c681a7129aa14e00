"""Training of one AST, as an item of the store."""

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.classifier.inference import embeddings, feature_logits, probabilities, set_last_layer
from common.classifier.model import Classifier, load_classifier, save_classifier, with_fresh_head
from common.contracts.base import write
from common.contracts.training import Slot, Strength, Training
from common.learners.calibration import cross_entropy
from common.learners.front_ends import recorded_copies
from common.learners.linear import fit_logistic
from common.log import event, get_logger
from common.records.audio_folder import load_clip
from common.runtime.devices import device
from common.runtime.seeding import derive_seed
from common.runtime.work import Task, obtain
from common.storage import write_json
from components.train_classifier.budget import Budget, make_budget
from components.train_classifier.clips import ClipSet
from components.train_classifier.contrastive import train_body
from components.train_classifier.job import MODEL, RESULT, SECONDS, VALIDATION, AstJob, Pretrained, opened
from components.train_classifier.training import Examples, selection_figure, train

LEAST_LOGIT = 5.0

log = get_logger("train_classifier")


def contrastive_body(job: AstJob) -> Task:
    """Training of the body that the job starts from; its item has `model/` and `result.json`."""
    return Task(job.store, job.contrastive_key(), partial(_make_body, job))


def training(job: AstJob) -> Task:
    """Training of the job; its item has `model/`, `result.json` and, with validation clips, `validation.npy`."""
    return Task(job.store, job.key(), partial(_make, job))


def _make(job: AstJob, folder: Path) -> None:
    start = time.monotonic()
    body = (
        load_classifier(obtain(contrastive_body(job)) / MODEL) if job.settings.contrastive else opened(job.pretrained)
    )
    classifier = _fresh(job, body)
    examples = _examples(job, job.gold, job.synthetic, strength=job.strength)
    validation = _examples(job, job.validation) if job.validation else None
    if job.probe_first:
        fit_head(classifier, examples, len(job.gold.clips), validation, job.settings.learners.inverse_penalties)
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
        validation,
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
        heard = [feature_logits(classifier, clips) for clips in _recorded(job.pretrained, job.validation)]
        np.save(folder / VALIDATION, probabilities(torch.stack(heard).cpu().numpy(), job.multi_label))
    classifier.model.to("cpu")
    save_classifier(classifier, folder / MODEL)
    write_json(folder / SECONDS, time.monotonic() - start)
    write(folder / RESULT, _figures(job, budget, result))
    shown = ("val_accuracy", "val_map", "best_step")
    event(log, "trained", name=job.name, **{key: result[key] for key in shown if key in result})


def _make_body(job: AstJob, folder: Path) -> None:
    config = job.settings.contrastive
    assert config is not None
    classifier = _fresh(job, opened(job.pretrained))
    curve = train_body(
        classifier,
        _examples(job, job.gold, job.synthetic),
        len(job.gold.clips),
        job.sources,
        config,
        seed=derive_seed(job.seed, "contrastive"),
        checkpoints=job.store.checkpoints(**job.contrastive_key()),
    )
    classifier.model.to("cpu")
    save_classifier(classifier, folder / MODEL)
    write_json(folder / RESULT, {"curve": curve})


def _fresh(job: AstJob, body: Classifier) -> Classifier:
    made = with_fresh_head(body, job.labels, derive_seed(job.seed, "head"), job.multi_label, job.pretrained.window_s)
    made.model.to(device())
    return made


def _figures(job: AstJob, budget: Budget, result: Mapping[str, Any]) -> Training:
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


def _examples(job: AstJob, *sets: ClipSet, strength: Strength | None = None) -> Examples:
    """Features and labels of the clips of all sets, each clip followed by its copies under an augmentation."""
    front_end, variants = opened(job.pretrained).front_end, []
    for clips in sets:
        copies = job.copies(clips, front_end.sample_rate_hz, strength, job.seed)
        clean = _features(job.pretrained, clips)
        variants += [[features, *front_end(own)] for features, own in zip(clean, copies, strict=True)]
    targets = np.concatenate([clips.targets(len(job.labels)) for clips in sets]) if job.multi_label else None
    return Examples(variants, np.concatenate([clips.labels for clips in sets]), targets)


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
