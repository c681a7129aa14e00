"""Every other learner on every method's clips, beside AST."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from common.config.classifier import TrainClassifierPlan, Waveform
from common.config.learners import LEARNERS
from common.config.methods import Augmentation, Method
from common.errors import SynthioError
from common.log import event, get_logger
from common.runtime.devices import model_workers
from common.runtime.parallel import run_items
from components.train_classifier.candidates import classics_of, strengths
from components.train_classifier.inputs import Inputs
from components.train_classifier.jobs import MODEL, read_result
from components.train_classifier.linear_learners import LinearJob, Pretrained, run_linear

FOLDER = "learners"
Cell = tuple[str, str, int]
"""Learner, method and replicate."""

log = get_logger("train_classifier")


@dataclass
class Learned:
    """Item folders by cell, and `{method, seed, error}` of each failure."""

    items: dict[Cell, Path] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)


def train_learners(inputs: Inputs, plan: TrainClassifierPlan) -> Learned:
    """Train the run's linear learners; one that fails does not stop the others.

    A method whose augmentation changes spectrograms (SpecAugment) does not apply to them. Where a method joins the best
    classic augmentation, each learner takes the one that its own splits found best.
    """
    plan = inputs.possible(plan)
    names = [name for name in plan.settings.learners if LEARNERS[name].linear]
    pretrained = Pretrained(inputs.base_dir, inputs.base_hash, inputs.window_s)
    waveform = tuple(classic for classic in classics_of(plan.methods) if classic in get_args(Waveform))
    learned = Learned()

    def job(learner: str, method: str, seed: int, of: Method, classic: Augmentation) -> LinearJob:
        return LinearJob(
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
        if method.classic == "none" or method.classic in waveform
    }
    alone: dict[tuple[str, int, Augmentation], LinearJob] = {
        (learner, seed, classic): job(learner, classic, seed, Method(title=classic), classic)
        for learner in names
        for seed in plan.seeds
        for classic in waveform
        if any(method.classic == "best" for method in plan.methods.values())
    }
    found = _run(direct, learned)
    classics = _run(alone, learned)
    best: dict[tuple[str, int], Augmentation] = {}
    for learner, seed in dict.fromkeys((learner, seed) for learner, seed, _ in classics):
        own = {c: read_result(item)["split_loss"] for (x, s, c), item in classics.items() if (x, s) == (learner, seed)}
        best[learner, seed] = min(own, key=lambda classic: own[classic])
    joined = {
        (learner, name, seed): job(learner, name, seed, method, classic)
        for (learner, seed), classic in best.items()
        for name, method in plan.methods.items()
        if method.classic == "best"
    }
    learned.items = {**found, **_run(joined, learned)}
    return learned


def _run(jobs: Mapping[Any, LinearJob], learned: Learned) -> dict[Any, Path]:
    keys, done = list(jobs), {}
    for place, result in run_items(run_linear, list(jobs.values()), model_workers()):
        job = jobs[keys[place]]
        if isinstance(result, BaseException):
            text = str(result) if isinstance(result, SynthioError) else f"{type(result).__name__}: {result}"
            learned.failures.append({"method": f"{job.learner} on {job.method}", "seed": job.seed, "error": text})
            event(log, "failed", name=job.name, error=text)
        else:
            done[keys[place]] = result
    return {key: done[key] for key in keys if key in done}


def write_learners(learned: Learned, folder: Path) -> dict[str, Any]:
    """Copy each model to `learners/<learner>/<method>/<seed>/`; returns the figures by `<learner>/<method>/<seed>`."""
    figures = {}
    for (learner, method, seed), item in sorted(learned.items.items()):
        target = folder / FOLDER / learner / method / str(seed)
        # A retried task finds the files of its first attempt.
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(item / MODEL, target)
        figures[f"{learner}/{method}/{seed}"] = read_result(item)
    return figures
