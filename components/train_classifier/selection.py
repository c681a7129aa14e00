"""Training of all candidates of AST and selection on validation, in two phases.

The first phase trains everything except the methods that use the best classic augmentation; the second trains those.
"""

import itertools
from collections import defaultdict
from collections.abc import Mapping

from common.config.learners import AST
from common.contracts.base import read
from common.contracts.training import Chosen, Failure, Selection, Training, Tried
from common.runtime.work import Name, Performed, perform
from components.train_classifier.ast_training import contrastive_body, training
from components.train_classifier.candidates import (
    Candidate,
    candidates_of,
    choose,
    classic_candidates,
    classics_of,
    first_phase,
)
from components.train_classifier.inputs import ORACLE, Inputs
from components.train_classifier.job import RESULT, AstJob
from components.train_classifier.trained import Trained


def train_asts(inputs: Inputs, trained: Trained) -> None:
    """Train every method in every replicate, and the oracle if need be; a failed training does not stop the others."""
    plan = inputs.plan
    first = first_phase(plan.methods, plan.replicates, plan.settings, plan.augmentation_factors)
    # The oracle judges the labels of generated clips.
    judged = any(method.synthetic for method in plan.methods.values())
    jobs: dict[Candidate | str, AstJob] = {ORACLE: inputs.oracle_job()} if judged else {}
    done = train_jobs(jobs | {candidate: inputs.ast_job(candidate) for candidate in first})
    trained.oracle = done.items.get(ORACLE)
    if ORACLE in done.failures:
        trained.fail(ORACLE, plan.replicates[0], done.failures[ORACLE])
    items = {each: item for each, item in done.items.items() if isinstance(each, Candidate)}
    failed = {each: error for each, error in done.failures.items() if isinstance(each, Candidate)}
    results = {candidate: read(Training, item / RESULT) for candidate, item in items.items()}
    best: dict[int, Candidate] = {}
    for replicate in plan.replicates:
        classics = classic_candidates(replicate, plan.settings, classics_of(plan.methods))
        if (found := choose(classics, results, inputs.select_by)) is not None:
            best[replicate], trained.best_classic[replicate] = found, found.classic
    joined = [
        candidate
        for replicate, found in best.items()
        for method in plan.methods.values()
        if method.classic == "best"
        for candidate in candidates_of(method, replicate, plan.settings, plan.augmentation_factors, found)
    ]
    second = train_jobs({candidate: inputs.ast_job(candidate) for candidate in joined})
    results |= {candidate: read(Training, item / RESULT) for candidate, item in second.items.items()}
    items |= second.items
    failed |= second.failures
    unreported = dict(failed)
    for (name, method), replicate in itertools.product(sorted(plan.methods.items()), plan.replicates):
        own = candidates_of(method, replicate, plan.settings, plan.augmentation_factors, best.get(replicate))
        for candidate in own:
            if candidate in failed:
                _fail(trained, name, candidate, failed[candidate])
                unreported.pop(candidate, None)
        if not own:
            none = "no classic augmentation finished, so none could be chosen; see the other failures"
            trained.failures.append(Failure(method=name, seed=replicate, error=none))
        chosen = choose(own, results, inputs.select_by)
        if chosen is not None:
            tried = [Tried.of(results[each], factor=each.factor) for each in own if each in results]
            trained.chosen[name, replicate] = Chosen.of(results[chosen], factor=chosen.factor, tried=tried)
            trained.jobs[AST, name, replicate] = inputs.ast_job(chosen)
            trained.items[AST, name, replicate] = items[chosen]
    for candidate, error in unreported.items():
        _fail(trained, candidate.classic, candidate, error)


def _fail(trained: Trained, name: str, candidate: Candidate, error: Exception) -> None:
    classic = None if candidate.strength is None else candidate.classic
    trained.fail(
        name, candidate.replicate, error, classic=classic, strength=candidate.strength, factor=candidate.factor
    )


def train_jobs(jobs: Mapping[Name, AstJob]) -> Performed[Name]:
    """Run all jobs."""
    # Each body is trained once, before the jobs that find it. If one fails, its jobs fail with the same error.
    perform({name: contrastive_body(job) for name, job in jobs.items() if job.settings.contrastive})
    return perform({name: training(job) for name, job in jobs.items()})


def selection_of(inputs: Inputs, trained: Trained) -> Selection:
    """Content of selection.json."""
    chosen = {f"{method}/{replicate}": figures for (method, replicate), figures in trained.chosen.items()}
    oracle = trained.oracle and read(Training, trained.oracle / RESULT)
    told = {"select_by": inputs.select_by, "best_classic": trained.best_classic, "oracle": oracle}
    return Selection.model_validate({**told, **chosen})


def mean_scores(selection: Selection) -> dict[str, float]:
    """Mean over the replicates of each method's validation accuracy, or map where clips have several labels."""
    found: dict[str, list[float]] = defaultdict(list)
    for name, figures in selection.chosen.items():
        by = "map" if figures.val_accuracy is None else "accuracy"
        found[f"val_{by}_{name.rsplit('/', 1)[0]}"].append(figures.figure(by))
    return {name: sum(values) / len(values) for name, values in sorted(found.items())}
