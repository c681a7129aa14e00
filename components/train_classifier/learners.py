"""Every other learner on every method's clips, beside AST, and their blend, a weighted mean of what they say."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.classifier.scores import choose_threshold
from common.config.augmentations import AUGMENTATIONS
from common.config.learners import BLEND, PROBE_FIRST, find_learner, probe_of
from common.config.methods import Method
from common.contracts.base import read
from common.contracts.training import Blend, Calibrated, Fit, Losses, Member
from common.learners.calibration import cross_entropy, fit_temperature, tempered, validation_figures, weighted_mean
from common.records.clips import GoldClip
from common.runtime.work import Performed, perform
from components.train_classifier.candidates import classics_of
from components.train_classifier.clips import ClipSet
from components.train_classifier.inputs import Inputs
from components.train_classifier.job import RESULT, SPLITS, VALIDATION, AstJob, LearnerJob
from components.train_classifier.learner_fitting import fitting, hear_all
from components.train_classifier.selection import train_jobs
from components.train_classifier.trained import Cell, Trained

GAIN = 0.01
"""A learner without splits joins a blend if the loss on validation falls by this share at least: the clips are few."""
Floats = NDArray[np.float64]


def train_learners(inputs: Inputs, trained: Trained) -> None:
    """Train the run's learners beside AST; one that fails does not stop the others.

    SpecAugment changes spectrograms, so it applies only to learners that are trained on them. Where a method joins the
    best classic augmentation, each learner takes the one, and the strength, that its own splits found best.
    """
    plan = inputs.plan
    joining = {name: method for name, method in plan.methods.items() if method.classic == "best"}
    classics = {name: Method(title=name, classic=name) for name in (classics_of(plan.methods) if joining else ())}
    first = {
        (learner, name, replicate): inputs.learner_job(learner, name, replicate, method)
        for learner in inputs.learners
        for name, method in {**classics, **plan.methods}.items()
        for replicate in plan.replicates
        if name not in joining and _applies(method.classic, learner)
    }
    hear_all(first.values())
    # What all jobs of a learner and a replicate compare with is fitted once, before them.
    _run({(job.learner, "gold", job.replicate): job.alone() for job in first.values()}, Trained())
    fitted = _run(first, trained)
    joined = {}
    for learner, replicate in itertools.product(inputs.learners, plan.replicates if joining else ()):
        cells = {name: (learner, name, replicate) for name in classics}
        fits = {name: read(Fit, fitted[cell] / RESULT) for name, cell in cells.items() if cell in fitted}
        if fits:
            best = min(fits, key=lambda name: fits[name].chosen.loss)
            strength = fits[best].chosen.strength
            for name, method in joining.items():
                job = inputs.learner_job(learner, name, replicate, method.model_copy(update={"classic": best}))
                # A strength that was left out has weight 0, and is none.
                joined[learner, name, replicate] = job if strength is None else replace(job, strengths=(strength,))
    finished = fitted | _run(joined, trained)
    trained.jobs |= {cell: job for cell, job in (first | joined).items() if cell[1] in plan.methods}
    trained.items |= {cell: item for cell, item in finished.items() if cell[1] in plan.methods}
    if PROBE_FIRST in plan.settings.learners.names:
        _probe_first(trained)
    _listen(inputs, trained)


def _applies(classic: str, learner: str) -> bool:
    return classic in ("none", *AUGMENTATIONS) or find_learner(learner).on_spectrograms


def _run(jobs: Mapping[Cell, LearnerJob], trained: Trained) -> dict[Cell, Path]:
    # The slow ones begin, so that no core waits for the last of them.
    cells = sorted(jobs, key=lambda cell: not find_learner(cell[0]).slow)
    return _finished(jobs, perform({cell: fitting(jobs[cell]) for cell in cells}), trained)


def _finished(cells: Iterable[Cell], done: Performed[Cell], trained: Trained) -> dict[Cell, Path]:
    for learner, method, replicate in cells:
        if error := done.failures.get((learner, method, replicate)):
            trained.fail(f"{learner} on {method}", replicate, error)
    return done.items


def _probe_first(trained: Trained) -> None:
    """Train what was chosen for AST, in strength and factor, once more from a fitted head."""
    jobs = {
        (PROBE_FIRST, method, replicate): replace(job, name=f"{PROBE_FIRST} on {job.name}", probe_first=True)
        for (_, method, replicate), job in trained.jobs.items()
        if isinstance(job, AstJob)
    }
    trained.jobs |= jobs
    trained.items |= _finished(jobs, train_jobs(jobs), trained)


def _listen(inputs: Inputs, trained: Trained) -> None:
    """Calibrate every model on its replicate's validation clips, and blend those of a method."""
    plan = inputs.plan
    names = [*plan.settings.learners.names, *map(probe_of, plan.settings.learners.encoders)]
    for method, replicate in itertools.product(plan.methods, plan.replicates):
        items = {name: item for (name, of, s), item in trained.items.items() if (of, s) == (method, replicate)}
        targets = inputs.validation[replicate].targets(len(inputs.labels)).astype(np.float64)
        heard = {name: Heard.of(item, targets, inputs.multi_label) for name, item in items.items()}
        for name, told in heard.items():
            found = losses([told], targets, inputs.multi_label)
            trained.told[name, method, replicate] = Calibrated.of(told, found)
        classic = plan.methods[method].classic
        # A mean of fewer than all learners is no rival to that of all.
        whole = classic == "best" or all(_applies(classic, name) for name in names if name != BLEND)
        if heard and BLEND in names and whole:
            fair = _groups(inputs.train[replicate]).isdisjoint(_groups(inputs.validation[replicate]))
            trained.told[BLEND, method, replicate] = blend(heard, targets, inputs.multi_label, fair)


def _groups(clips: ClipSet) -> set[str]:
    return {clip.group for clip in clips.clips if isinstance(clip, GoldClip) and clip.group}


@dataclass(frozen=True)
class Heard:
    """What a learner says of clips that it was not fitted to, calibrated by its temperature.

    Attributes:
        validation: (conditions, N, labels) probabilities of the validation clips, first as they are, then as each
            recorded copy.
        judged: (conditions, M, labels) of the clips that judge it: those outside the first split, and the validation
            clips too unless clips come in groups that validation may share with training. None = no splits (AST).
        targets: (M, labels) of these clips.
        temperature: divides the logits.
        threshold: probability, before that, from which a label counts as heard, where clips have several.
        weight: in a blend: the inverse of its loss on these clips, or on validation without splits.
    """

    validation: Floats
    judged: Floats | None
    targets: Floats
    temperature: float
    threshold: float | None
    weight: float

    @classmethod
    def of(cls, item: Path, targets: Floats, multi_label: bool) -> Heard:
        """Read and calibrate what the model of an item says; `targets` are those of the validation clips."""
        raw = np.load(item / VALIDATION, allow_pickle=False)
        threshold = choose_threshold(targets, raw[0]) if multi_label else None
        judged = None
        if (item / SPLITS).is_file():
            with np.load(item / SPLITS, allow_pickle=False) as kept:
                judged, own = kept["probabilities"], kept["targets"]
                if not kept["grouped"]:
                    judged, own = np.concatenate([judged, raw], axis=1), np.concatenate([own, targets])
            targets = own
        judging = raw if judged is None else judged
        temperature = fit_temperature(judging[0], targets, multi_label)
        calm = tempered(judging, temperature, multi_label)
        validation, loss = tempered(raw, temperature, multi_label), cross_entropy(calm, targets, multi_label)
        return cls(validation, None if judged is None else calm, targets, temperature, threshold, 1 / loss)


def losses(heard: Sequence[Heard], targets: Floats, multi_label: bool) -> Losses:
    """Cross-entropy of the weighted mean of what `heard` says, over all conditions alike.

    Args:
        targets: (N, labels) of the validation clips.
    """
    validation = weighted_mean((each.validation, each.weight) for each in heard)
    judged, told = [(each.judged, each.weight) for each in heard if each.judged is not None], None
    if judged:
        own = next(each.targets for each in heard if each.judged is not None)
        told = cross_entropy(weighted_mean(judged), own, multi_label)
    return Losses(calibrated_loss=cross_entropy(validation, targets, multi_label), judged_loss=told)


def blend(heard: Mapping[str, Heard], targets: Floats, multi_label: bool, fair: bool = True) -> Blend:
    """The mean of all learners with splits, and of each other that lowers its loss, weighted by the inverse of theirs.

    Few clips choose badly among learners: the mean of all is right more often than the best by splits, and than means
    chosen by these. A learner that knows little states little, by its temperature, and counts little.

    Args:
        targets: (N, labels) of the validation clips.
        fair: whether no validation clip shares its group with a training clip. If some do, validation flatters learners
            without splits, and these join no others.
    """

    def loss(names: Sequence[str]) -> float:
        return losses([heard[name] for name in names], targets, multi_label).calibrated_loss

    chosen = [name for name in sorted(heard) if heard[name].judged is not None]
    for name in sorted(heard.keys() - chosen, key=lambda name: (loss([name]), name)):
        if not chosen or (fair and loss([*chosen, name]) <= loss(chosen) * (1 - GAIN)):
            chosen.append(name)
    members = [heard[name] for name in chosen]
    told = weighted_mean((each.validation[0], each.weight) for each in members)
    return Blend(
        **validation_figures(told, targets, multi_label),
        threshold=choose_threshold(targets, told) if multi_label else None,
        **dict(losses(members, targets, multi_label)),
        members=[Member.of(heard[name], learner=name) for name in chosen],
    )
