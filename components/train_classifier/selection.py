"""Training of all candidates and selection on validation, in two phases.

The first phase trains everything except the methods that use the best classic augmentation; the second trains those.
"""

import shutil
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from common.config.train_classifier import TrainClassifierPlan
from common.contracts.base import read
from common.contracts.training import Chosen, Failure, Selection, Training, Tried
from common.errors import failure_text
from common.runtime.work import Name, Performed, perform
from components.train_classifier.candidates import (
    Candidate,
    candidates_of,
    choose,
    classic_candidates,
    classics_of,
    first_phase,
)
from components.train_classifier.inputs import ORACLE, Inputs
from components.train_classifier.jobs import MODEL, RESULT, Job, contrastive_body, training
from components.train_classifier.training import selection_figure


@dataclass
class Outcome:
    """Outcome of all trainings.

    Attributes:
        chosen: item folder and figures, by method and replicate.
        oracle: item folder; None = its training failed, or there are no generated clips to judge.
    """

    chosen: dict[tuple[str, int], tuple[Path, Chosen]] = field(default_factory=dict)
    candidates: dict[tuple[str, int], Candidate] = field(default_factory=dict)
    best_classic: dict[int, Candidate] = field(default_factory=dict)
    oracle: Path | None = None
    select_by: str = "accuracy"
    failures: list[Failure] = field(default_factory=list)


def train_all(inputs: Inputs, plan: TrainClassifierPlan) -> Outcome:
    """Train every method in every replicate, and the oracle if need be; a failed training does not stop the others."""
    select_by = selection_figure(plan.settings.select_by, inputs.multi_label)
    outcome = Outcome(select_by=select_by)
    first = first_phase(plan.methods, plan.replicates, plan.settings, plan.augmentation_factors)
    # The oracle judges the labels of generated clips.
    judged = any(method.synthetic for method in plan.methods.values())
    jobs: dict[Candidate | str, Job] = {ORACLE: inputs.oracle_job(plan)} if judged else {}
    done = train_jobs(jobs | {candidate: inputs.job(candidate, plan) for candidate in first})
    outcome.oracle = done.items.get(ORACLE)
    if ORACLE in done.failures:
        error = failure_text(done.failures[ORACLE])
        outcome.failures.append(Failure(method=ORACLE, seed=plan.replicates[0], error=error))
    items = {candidate: done.items[candidate] for candidate in first if candidate in done.items}
    failed = {candidate: done.failures[candidate] for candidate in first if candidate in done.failures}
    results = {candidate: read(Training, item / RESULT) for candidate, item in items.items()}
    for replicate in plan.replicates:
        best = choose(classic_candidates(replicate, plan.settings, classics_of(plan.methods)), results, select_by)
        if best is not None:
            outcome.best_classic[replicate] = best
    joined = [
        candidate
        for replicate, best in outcome.best_classic.items()
        for method in plan.methods.values()
        if method.classic == "best"
        for candidate in candidates_of(method, replicate, plan.settings, plan.augmentation_factors, best)
    ]
    second = train_jobs({each: inputs.job(each, plan) for each in joined})
    items |= second.items
    failed |= second.failures
    results |= {each: read(Training, item / RESULT) for each, item in items.items() if each not in results}
    _choose_all(plan, outcome, items, results, failed)
    return outcome


def _choose_all(
    plan: TrainClassifierPlan,
    outcome: Outcome,
    items: dict[Candidate, Path],
    results: dict[Candidate, Training],
    failed: dict[Candidate, Exception],
) -> None:
    reported = set()
    for name, method in sorted(plan.methods.items()):
        for replicate in plan.replicates:
            best = outcome.best_classic.get(replicate)
            own = candidates_of(method, replicate, plan.settings, plan.augmentation_factors, best)
            for candidate in own:
                if candidate in failed:
                    outcome.failures.append(_failure(name, replicate, candidate, failed[candidate]))
                    reported.add(candidate)
            if not own:
                error = "no classic augmentation finished, so none could be chosen; see the other failures"
                outcome.failures.append(Failure(method=name, seed=replicate, error=error))
            chosen = choose(own, results, outcome.select_by)
            if chosen is not None:
                tried = [
                    Tried(**results[c].model_dump(include=set(Tried.model_fields)), factor=c.factor)
                    for c in own
                    if c in results
                ]
                figures = Chosen(**dict(results[chosen]), factor=chosen.factor, tried=tried)
                outcome.candidates[name, replicate] = chosen
                outcome.chosen[name, replicate] = items[chosen], figures
    for candidate in failed:
        if candidate not in reported:
            outcome.failures.append(_failure(candidate.classic, candidate.replicate, candidate, failed[candidate]))


def _failure(name: str, replicate: int, candidate: Candidate, error: Exception) -> Failure:
    classic = None if candidate.strength is None else candidate.classic
    augmented = {"classic": classic, "strength": candidate.strength, "factor": candidate.factor}
    return Failure(method=name, seed=replicate, error=failure_text(error), **augmented)


def train_jobs(jobs: Mapping[Name, Job]) -> Performed[Name]:
    """Run all jobs."""
    # Each body is trained once, before the jobs that find it. If one fails, its jobs fail with the same error.
    perform({name: contrastive_body(job) for name, job in jobs.items() if job.settings.contrastive})
    return perform({name: training(job) for name, job in jobs.items()})


def write_classifiers(outcome: Outcome, folder: Path) -> Selection:
    """Copy the chosen models to `<method>/<replicate>/` and the oracle to `oracle/`; returns selection.json."""
    for (method, replicate), (item, _) in sorted(outcome.chosen.items()):
        copy_model(item, folder / method / str(replicate))
    oracle = None
    if outcome.oracle is not None:
        copy_model(outcome.oracle, folder / ORACLE)
        oracle = read(Training, outcome.oracle / RESULT)
    best = {replicate: best.classic for replicate, best in outcome.best_classic.items()}
    told = {"select_by": outcome.select_by, "best_classic": best, "oracle": oracle}
    chosen = {f"{method}/{replicate}": figures for (method, replicate), (_, figures) in outcome.chosen.items()}
    return Selection.model_validate({**told, **chosen})


def mean_scores(selection: Selection) -> dict[str, float]:
    """Mean over the replicates of each method's validation accuracy, or map where clips have several labels."""
    found: dict[str, list[float]] = defaultdict(list)
    for name, figures in selection.chosen.items():
        by = "map" if figures.val_accuracy is None else "accuracy"
        found[f"val_{by}_{name.rsplit('/', 1)[0]}"].append(figures.figure(by))
    return {name: sum(values) / len(values) for name, values in sorted(found.items())}


def copy_model(item: Path, target: Path) -> None:
    """Copy the model of a finished training."""
    # A retried task finds the files of its first attempt.
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(item / MODEL, target)
