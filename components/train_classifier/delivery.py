"""What a run delivers: the learner and method that do best on validation, trained again on all labelled clips.

No clip of the test split is among them: it is no input of this stage.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, geometric_mean

from common.config.learners import AST, BLEND, PROBE_FIRST
from common.config.train_classifier import TrainClassifierPlan
from common.contracts.training import Blend, Delivery, Failure, Losses, Member
from common.errors import DataError, failure_text
from common.learners.architectures import copy_encoder
from common.learners.calibration import best_of
from common.learners.model import hears_through
from common.learners.opened import save_blend, set_temperature
from common.log import event, get_logger
from common.runtime.work import perform
from components.train_classifier.clips import ClipSet
from components.train_classifier.inputs import Inputs, optim_of
from components.train_classifier.jobs import MODEL, Job, training
from components.train_classifier.learner_fitting import fitting, hear_all
from components.train_classifier.learner_job import LearnerJob
from components.train_classifier.learners import Learned
from components.train_classifier.selection import Outcome

DELIVERED = "delivered"

log = get_logger("train_classifier")


@dataclass(frozen=True)
class Pair:
    """A learner and a method, with the mean losses of its models."""

    learner: str
    method: str
    losses: Losses


def best_pairs(plan: TrainClassifierPlan, learned: Learned) -> list[Pair]:
    """Pairs that finished in every replicate, the best first; ceilings are left out: no user has their clips."""
    told: dict[tuple[str, str], list[Losses]] = {}
    for (learner, method, _), row in sorted(learned.told.items()):
        if not plan.methods[method].ceiling:
            told.setdefault((learner, method), []).append(row)
    most, means = max(map(len, told.values()), default=0), {}
    for names, rows in told.items():
        judged = [row.judged_loss for row in rows if row.judged_loss is not None]
        if len(rows) == most:
            means[names] = Losses(
                calibrated_loss=fmean([row.calibrated_loss for row in rows]),
                judged_loss=fmean(judged) if len(judged) == most else None,
            )
    pairs = []
    while means:
        best = best_of(means, lambda names: names[0])
        pairs.append(Pair(*best, means.pop(best)))
    return pairs


def deliver(inputs: Inputs, plan: TrainClassifierPlan, asts: Outcome, learned: Learned, folder: Path) -> Delivery:
    """Train the best pair on all labelled clips and write it to `folder`; the next pair where that fails.

    Raises:
        DataError: no pair could be trained.
    """
    failed: list[Failure] = []
    for pair in best_pairs(plan, learned):
        members = _members(pair, learned)
        names = [member.learner for member in members]
        items, errors = _train(inputs, plan, asts, learned, pair, names)
        if errors:
            failed += errors
            continue
        shutil.rmtree(folder, ignore_errors=True)
        with tempfile.TemporaryDirectory() as made_in:
            models = [_whole(items[name] / MODEL, name, learned, Path(made_in) / name) for name in names]
            if pair.learner == BLEND:
                folder.mkdir(parents=True)
                save_blend(folder, list(zip(members, models, strict=True)))
            else:
                shutil.copytree(models[0], folder)
                set_temperature(folder, members[0].temperature)
        made = {"learner": pair.learner, "method": pair.method, "members": names, **dict(pair.losses)}
        event(log, "delivered", **made)
        return Delivery(**made, clips=len(inputs.everything.clips), failures=failed)
    raise DataError(
        "no classifier could be trained on all labelled clips, though each was on its replicate's; the first failure, "
        f"of {failed[0].method}: {failed[0].error}"
        if failed
        else "no learner finished in every replicate"
    )


def _whole(model: Path, learner: str, learned: Learned, folder: Path) -> Path:
    """The model's directory, or a copy with the pretrained model that it hears through."""
    if (name := hears_through(model)) is None:
        return model
    shutil.copytree(model, folder)
    copy_encoder(learned.pretrained(learner), folder / name)
    return folder


def _members(pair: Pair, learned: Learned) -> list[Member]:
    """Learners to train, with their temperatures and weights: of a blend those that half of the replicates chose."""
    if pair.learner != BLEND:
        names = [pair.learner]
    else:
        blends = [told for (_, of, _), told in learned.told.items() if of == pair.method and isinstance(told, Blend)]
        votes = Counter(member.learner for told in blends for member in told.members)
        names = [name for name, count in votes.most_common() if 2 * count >= len(blends)] or [
            votes.most_common(1)[0][0]
        ]
    members = []
    for name in names:
        told = [row for (of, method, _), row in learned.told.items() if (of, method) == (name, pair.method)]
        temperature, weight = (geometric_mean(getattr(row, x) for row in told) for x in ("temperature", "weight"))
        members.append(Member(learner=name, temperature=temperature, weight=weight))
    return members


def _train(
    inputs: Inputs, plan: TrainClassifierPlan, asts: Outcome, learned: Learned, pair: Pair, names: Sequence[str]
) -> tuple[dict[str, Path], list[Failure]]:
    """Item of each learner on all labelled clips, and those that failed."""
    networks = [name for name in names if name in (AST, PROBE_FIRST)]
    fits = {name: _learner_job(inputs, learned, name, pair.method) for name in names if name not in networks}
    hear_all(fits.values())
    done = perform(
        {name: fitting(job) for name, job in fits.items()}
        | {name: training(_ast_job(inputs, plan, asts, name, pair.method)) for name in networks}
    )
    what = f"on {pair.method}, all labelled clips"
    return done.items, [
        Failure(method=f"{name} {what}", seed=plan.replicates[0], error=failure_text(error))
        for name, error in done.failures.items()
    ]


def _learner_job(inputs: Inputs, learned: Learned, learner: str, method: str) -> LearnerJob:
    """The learner's job in the first replicate, on all labelled clips and the further clips of all replicates."""
    jobs = {
        replicate: job for (name, of, replicate), job in sorted(learned.jobs.items()) if (name, of) == (learner, method)
    }
    first = next(iter(jobs.values()))
    synthetic = _joined([job.synthetic for job in jobs.values()])
    return replace(first, gold=inputs.everything, validation=None, synthetic=synthetic)


def _ast_job(inputs: Inputs, plan: TrainClassifierPlan, asts: Outcome, learner: str, method: str) -> Job:
    """AST's job as validation chose it in the first replicate, on all labelled clips; its last checkpoint is kept."""
    candidate = asts.candidates[next(cell for cell in asts.candidates if cell[0] == method)]
    synthetic = _joined([inputs.synthetic[candidate.recipe, each].first(candidate.factor) for each in plan.replicates])
    return replace(
        inputs.job(candidate, plan),
        name=f"{learner} on {method}, all clips",
        gold=inputs.everything,
        validation=None,
        synthetic=synthetic,
        optim=optim_of(plan, inputs.everything, plan.settings.optim.steps),
        probe_first=learner == PROBE_FIRST,
    )


def _joined(sets: Sequence[ClipSet]) -> ClipSet:
    """Clips of all sets of one folder, each once."""
    found = {row[0]: (row, clip) for clips in sets for row, clip in zip(clips.identity, clips.clips, strict=True)}
    rows = [found[name] for name in sorted(found)]
    return ClipSet(tuple(row for row, _ in rows), sets[0].folder, tuple(clip for _, clip in rows))
