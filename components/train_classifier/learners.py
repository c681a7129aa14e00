"""Every other learner on every method's clips, beside AST, and their blend."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from common.config.classifier import TrainClassifierPlan, Waveform
from common.config.learners import BLEND, LEARNERS, PROBE_FIRST
from common.config.methods import Augmentation, Method
from common.errors import SynthioError
from common.log import event, get_logger
from common.runtime.devices import model_workers
from common.runtime.parallel import run_items
from common.storage import write_json
from components.train_classifier.blend import MEMBERS, blend
from components.train_classifier.candidates import classics_of, strengths
from components.train_classifier.inputs import Inputs
from components.train_classifier.jobs import MODEL, read_result
from components.train_classifier.learner_fitting import hear, hearings, run_learner
from components.train_classifier.learner_job import LearnerJob, Pretrained
from components.train_classifier.learner_kinds import KINDS
from components.train_classifier.selection import Outcome, train_jobs

FOLDER = "learners"
Cell = tuple[str, str, int]
"""Learner, method and replicate."""

log = get_logger("train_classifier")


@dataclass
class Learned:
    """Finished learners.

    Attributes:
        items: item folder by cell.
        blends: members and figures of each blend, by method and replicate.
        failures: `{method, seed, error}` of each failure.
    """

    items: dict[Cell, Path] = field(default_factory=dict)
    blends: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)

    def fail(self, learner: str, method: str, seed: int, error: str) -> None:
        """Note that a learner failed."""
        self.failures.append({"method": f"{learner} on {method}", "seed": seed, "error": error})


def train_learners(inputs: Inputs, plan: TrainClassifierPlan, asts: Outcome) -> Learned:
    """Train the run's learners; one that fails does not stop the others.

    SpecAugment changes spectrograms, so it applies only to learners that are trained on them. Where a method joins the
    best classic augmentation, each learner takes the one that its own splits found best.
    """
    plan = inputs.possible(plan)
    names = [name for name in plan.settings.learners.names if name in KINDS]
    pretrained = Pretrained(inputs.base_dir, inputs.base_hash, inputs.window_s)
    learned = Learned()

    def job(learner: str, method: str, seed: int, of: Method, classic: Augmentation) -> LearnerJob:
        return LearnerJob(
            learner=learner,
            method=method,
            seed=seed,
            pretrained=pretrained,
            labels=inputs.labels,
            multi_label=inputs.multi_label,
            gold=inputs.train[seed],
            validation=inputs.validation[seed],
            synthetic=inputs.synthetic[of.recipe, seed],
            classic=classic,
            strengths=strengths(classic, plan.settings),
            settings=plan.settings,
            store=inputs.store,
            backgrounds=inputs.backgrounds if classic == "background" else None,
        )

    direct = {
        (learner, name, seed): job(learner, name, seed, method, method.classic)
        for learner in names
        for name, method in plan.methods.items()
        for seed in plan.seeds
        if method.classic != "best" and (method.classic == "none" or _applies(method.classic, learner))
    }
    tried: dict[tuple[str, str, int], LearnerJob] = {
        (learner, classic, seed): job(learner, classic, seed, Method(title=classic), classic)
        for learner in names
        for seed in plan.seeds
        for classic in classics_of(plan.methods)
        if _applies(classic, learner) and any(method.classic == "best" for method in plan.methods.values())
    }
    every = [*direct.values(), *tried.values()]
    run_items(hear, hearings(every), model_workers())
    # What all jobs of a learner and a replicate compare with is fitted once, before them.
    alone = {(each.learner, "gold", each.seed): each.alone() for each in every}
    _run(alone, Learned())
    learned.items = _run(direct, learned)
    classics = _run(tried, learned)
    best: dict[tuple[str, int], Augmentation] = {}
    for learner, seed in dict.fromkeys((learner, seed) for learner, _, seed in classics):
        own = {c: read_result(item)["split_loss"] for (x, c, s), item in classics.items() if (x, s) == (learner, seed)}
        best[learner, seed] = tried[learner, min(own, key=lambda classic: own[classic]), seed].classic
    joined = {
        (learner, name, seed): job(learner, name, seed, method, classic)
        for (learner, seed), classic in best.items()
        for name, method in plan.methods.items()
        if method.classic == "best"
    }
    learned.items |= _run(joined, learned)
    if PROBE_FIRST in plan.settings.learners.names:
        _probe_first(inputs, plan, asts, learned)
    if BLEND in plan.settings.learners.names:
        _blend(inputs, plan, asts, learned)
    return learned


def _applies(classic: Augmentation, learner: str) -> bool:
    return classic in get_args(Waveform) or LEARNERS[learner].on_spectrograms


def _run(jobs: Mapping[Cell, LearnerJob], learned: Learned) -> dict[Cell, Path]:
    keys, done = list(jobs), {}
    for place, result in run_items(run_learner, list(jobs.values()), model_workers()):
        job = jobs[keys[place]]
        if isinstance(result, BaseException):
            text = str(result) if isinstance(result, SynthioError) else f"{type(result).__name__}: {result}"
            learned.fail(job.learner, job.method, job.seed, text)
            event(log, "failed", name=job.name, error=text)
        else:
            done[keys[place]] = result
    return {key: done[key] for key in keys if key in done}


def _probe_first(inputs: Inputs, plan: TrainClassifierPlan, asts: Outcome, learned: Learned) -> None:
    """Train what was chosen for AST, in strength and factor, once more from a fitted head."""
    cells = list(asts.candidates)
    jobs = [inputs.job(asts.candidates[cell], plan) for cell in cells]
    done, errors = train_jobs([replace(job, name=f"{PROBE_FIRST} on {job.name}", probe_first=True) for job in jobs])
    for place, (method, seed) in enumerate(cells):
        if place in errors:
            learned.fail(PROBE_FIRST, method, seed, errors[place])
        else:
            learned.items[PROBE_FIRST, method, seed] = done[place]


def _blend(inputs: Inputs, plan: TrainClassifierPlan, asts: Outcome, learned: Learned) -> None:
    for method in plan.methods:
        for seed in plan.seeds:
            members = {name: item for (name, of, s), item in learned.items.items() if (of, s) == (method, seed)}
            if (method, seed) in asts.chosen:
                members["ast"] = asts.chosen[method, seed][0]
            if members:
                targets = inputs.validation[seed].targets(len(inputs.labels))
                learned.blends[method, seed] = blend(members, targets, inputs.multi_label)


def write_learners(learned: Learned, folder: Path) -> dict[str, Any]:
    """Copy each model to `learners/<learner>/<method>/<seed>/`, and write the members of each blend there.

    Returns:
        Figures by `<learner>/<method>/<seed>`.
    """
    figures = {}
    for (learner, method, seed), item in sorted(learned.items.items()):
        target = folder / FOLDER / learner / method / str(seed)
        # A retried task finds the files of its first attempt.
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(item / MODEL, target)
        figures[f"{learner}/{method}/{seed}"] = read_result(item)
    for (method, seed), told in sorted(learned.blends.items()):
        target = folder / FOLDER / BLEND / method / str(seed)
        target.mkdir(parents=True, exist_ok=True)
        write_json(target / MEMBERS, told["members"])
        figures[f"{BLEND}/{method}/{seed}"] = told
    return figures
