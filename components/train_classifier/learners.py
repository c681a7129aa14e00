"""Every other learner on every method's clips, beside AST, and their blend, a weighted mean of what they say."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.classifier.scores import choose_threshold
from common.config.augmentations import AUGMENTATIONS
from common.config.learners import AST, BLEND, PROBE_FIRST, find_learner, probe_of
from common.config.methods import Method
from common.config.train_classifier import TrainClassifierPlan
from common.contracts import training
from common.contracts.base import read
from common.contracts.training import Blend, Calibrated, Failure, Fit, Losses, Member
from common.errors import failure_text
from common.learners.architectures import copy_encoder
from common.learners.calibration import cross_entropy, fit_temperature, tempered, validation_figures, weighted_mean
from common.learners.front_ends import ENCODER
from common.records.clips import GoldClip
from common.runtime.work import perform
from common.storage import read_json
from components.train_classifier.candidates import classics_of, strengths
from components.train_classifier.clips import ClipSet
from components.train_classifier.inputs import Inputs
from components.train_classifier.jobs import RESULT, SECONDS, SPLITS, VALIDATION
from components.train_classifier.learner_fitting import fitting, hear_all
from components.train_classifier.learner_job import LearnerJob
from components.train_classifier.learner_kinds import KINDS
from components.train_classifier.selection import Outcome, copy_model, train_jobs

FOLDER, ENCODERS = "learners", "encoders"
GAIN = 0.01
"""A learner without splits joins a blend if the loss on validation falls by this share at least: the clips are few."""
Floats = NDArray[np.float64]
Cell = tuple[str, str, int]
"""Learner, method and replicate."""


@dataclass
class Learned:
    """Finished learners by cell; `jobs` has the others too, and `told` every model, AST's among them, and blends."""

    jobs: dict[Cell, LearnerJob] = field(default_factory=dict)
    items: dict[Cell, Path] = field(default_factory=dict)
    told: dict[Cell, Calibrated | Blend] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    def pretrained(self, learner: str) -> Path:
        """Folder of the pretrained model that a learner hears through."""
        return next(job.pretrained.folder for (name, _, _), job in self.jobs.items() if name == learner)

    def fail(self, learner: str, method: str, replicate: int, error: Exception) -> None:
        """Note that a learner failed."""
        self.failures.append(Failure(method=f"{learner} on {method}", seed=replicate, error=failure_text(error)))


def train_learners(inputs: Inputs, plan: TrainClassifierPlan, asts: Outcome) -> Learned:
    """Train the run's learners; one that fails does not stop the others.

    SpecAugment changes spectrograms, so it applies only to learners that are trained on them. Where a method joins the
    best classic augmentation, each learner takes the one, and the strength, that its own splits found best.
    """
    frozen = {"classifier": inputs.base, "clap": inputs.clap}
    named = {x: frozen[find_learner(x).frozen or "classifier"] for x in plan.settings.learners.names if x in KINDS}
    pretrained, learned = {**inputs.encoders, **named}, Learned()

    def job(learner: str, method: str, replicate: int, of: Method, classic: str) -> LearnerJob:
        return LearnerJob(
            learner=learner,
            method=method,
            replicate=replicate,
            pretrained=pretrained[learner],
            labels=inputs.labels,
            multi_label=inputs.multi_label,
            gold=inputs.train[replicate],
            validation=inputs.validation[replicate],
            synthetic=inputs.synthetic[of.recipe, replicate],
            classic=classic,
            strengths=strengths(classic, plan.settings),
            settings=plan.settings,
            store=inputs.store,
            backgrounds=inputs.backgrounds if classic == "background" else None,
        )

    direct = {
        (learner, name, replicate): job(learner, name, replicate, method, method.classic)
        for learner in pretrained
        for name, method in plan.methods.items()
        for replicate in plan.replicates
        if method.classic != "best" and (method.classic == "none" or _applies(method.classic, learner))
    }
    tried: dict[tuple[str, str, int], LearnerJob] = {
        (learner, classic, replicate): job(learner, classic, replicate, Method(title=classic), classic)
        for learner in pretrained
        for replicate in plan.replicates
        for classic in classics_of(plan.methods)
        if _applies(classic, learner) and any(method.classic == "best" for method in plan.methods.values())
    }
    every = [*direct.values(), *tried.values()]
    hear_all(every)
    # What all jobs of a learner and a replicate compare with is fitted once, before them.
    alone = {(each.learner, "gold", each.replicate): each.alone() for each in every}
    _run(alone, Learned())
    learned.items = _run(direct, learned)
    classics = _run(tried, learned)
    joined: dict[Cell, LearnerJob] = {}
    for learner, replicate in dict.fromkeys((learner, replicate) for learner, _, replicate in classics):
        own = {c: read(Fit, item / RESULT) for (x, c, s), item in classics.items() if (x, s) == (learner, replicate)}
        best = min(own, key=lambda classic: own[classic].split_loss)
        of = tried[learner, best, replicate]
        strength = own[best].chosen.strength
        # A strength that was left out has weight 0, and is none.
        kept = of.strengths if strength is None else (strength,)
        for name, method in plan.methods.items():
            if method.classic == "best":
                joined[learner, name, replicate] = replace(
                    job(learner, name, replicate, method, of.classic), strengths=kept
                )
    learned.items |= _run(joined, learned)
    learned.jobs = {**direct, **joined}
    if PROBE_FIRST in plan.settings.learners.names:
        _probe_first(inputs, plan, asts, learned)
    _listen(inputs, plan, asts, learned)
    return learned


def _applies(classic: str, learner: str) -> bool:
    return classic in AUGMENTATIONS or find_learner(learner).on_spectrograms


def _all_apply(plan: TrainClassifierPlan, method: str) -> bool:
    """Whether every learner of the run learns from the method's clips; a mean of fewer is no rival to that of all."""
    classic = plan.methods[method].classic
    names = [*plan.settings.learners.names, *map(probe_of, plan.settings.learners.encoders)]
    return classic in ("none", "best") or all(_applies(classic, name) for name in names if name != BLEND)


def _run(jobs: Mapping[Cell, LearnerJob], learned: Learned) -> dict[Cell, Path]:
    # The slow ones begin, so that no core waits for the last of them.
    cells = sorted(jobs, key=lambda cell: not find_learner(cell[0]).slow)
    done = perform({cell: fitting(jobs[cell]) for cell in cells})
    for cell in jobs:
        if cell in done.failures:
            learned.fail(*cell, done.failures[cell])
    return done.items


def _probe_first(inputs: Inputs, plan: TrainClassifierPlan, asts: Outcome, learned: Learned) -> None:
    """Train what was chosen for AST, in strength and factor, once more from a fitted head."""
    jobs = {(PROBE_FIRST, *cell): inputs.job(candidate, plan) for cell, candidate in asts.candidates.items()}
    done = train_jobs(
        {cell: replace(job, name=f"{PROBE_FIRST} on {job.name}", probe_first=True) for cell, job in jobs.items()}
    )
    for cell, error in done.failures.items():
        learned.fail(*cell, error)
    learned.items |= done.items


def _listen(inputs: Inputs, plan: TrainClassifierPlan, asts: Outcome, learned: Learned) -> None:
    """Calibrate every model on its replicate's validation clips, and blend those of a method."""
    for method, replicate in itertools.product(plan.methods, plan.replicates):
        items = {name: item for (name, of, s), item in learned.items.items() if (of, s) == (method, replicate)}
        if (method, replicate) in asts.chosen:
            items[AST] = asts.chosen[method, replicate][0]
        targets = inputs.validation[replicate].targets(len(inputs.labels)).astype(np.float64)
        heard = {name: Heard.of(item, targets, inputs.multi_label) for name, item in items.items()}
        for name, told in heard.items():
            found = losses([told], targets, inputs.multi_label)
            learned.told[name, method, replicate] = Calibrated.of(told, found)
        if heard and BLEND in plan.settings.learners.names and _all_apply(plan, method):
            fair = _groups(inputs.train[replicate]).isdisjoint(_groups(inputs.validation[replicate]))
            learned.told[BLEND, method, replicate] = blend(heard, targets, inputs.multi_label, fair)


def _groups(clips: ClipSet) -> set[str]:
    return {clip.group for clip in clips.clips if isinstance(clip, GoldClip) and clip.group}


def write_learners(learned: Learned, folder: Path) -> training.Learners:
    """Copy each model to `learners/<learner>/<method>/<replicate>/`.

    An encoder that learners hear through is copied once, to `encoders/<learner>/`. Returns content of learners.json.
    """
    figures: training.Learners = {"/".join(map(str, cell)): told for cell, told in learned.told.items()}
    for cell, item in sorted(learned.items.items()):
        name = "/".join(map(str, cell))
        copy_model(item, folder / FOLDER / name)
        whole, part = (training.ProbeFirst, training.Training) if cell[0] == PROBE_FIRST else (training.Fitted, Fit)
        figures[name] = whole(**dict(learned.told[cell]), **dict(read(part, item / RESULT)))
    for learner in sorted({name for name, _, _ in learned.items if find_learner(name).frozen == ENCODER}):
        copy_encoder(learned.pretrained(learner), folder / ENCODERS / learner)
    return figures


def seconds(asts: Outcome, learned: Learned) -> dict[str, dict[str, float]]:
    """Mean seconds of a training with the choice of its settings, by learner and method.

    Of a blend: those of all learners that it chose from. AST's are those of the chosen training.
    """
    found: dict[str, dict[str, list[float]]] = {}
    items = {**learned.items, **{(AST, *cell): item for cell, (item, _) in asts.chosen.items()}}
    for (learner, method, _), item in sorted(items.items()):
        found.setdefault(learner, {}).setdefault(method, []).append(float(read_json(item / SECONDS)))
    means = {x: {m: sum(own) / len(own) for m, own in cells.items()} for x, cells in found.items()}
    blended = {method for learner, method, _ in learned.told if learner == BLEND}
    sums = {m: sum(cells[m] for cells in means.values() if m in cells) for m in sorted(blended)}
    return {**means, **({BLEND: sums} if sums else {})}


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
