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

from common.config.learners import BLEND
from common.contracts.training import Blend, Delivery, Failure, Losses, Member
from common.errors import DataError, failure_text
from common.learners.architectures import copy_encoder
from common.learners.calibration import best_of
from common.learners.model import hears_through
from common.learners.opened import save_blend, set_temperature
from common.log import event, get_logger
from common.runtime.work import perform
from components.train_classifier.ast_training import training
from components.train_classifier.clips import ClipSet
from components.train_classifier.inputs import Inputs
from components.train_classifier.job import MODEL, AstJob, LearnerJob, Pretrained
from components.train_classifier.learner_fitting import fitting, hear_all
from components.train_classifier.trained import Trained

DELIVERED = "delivered"

log = get_logger("train_classifier")


@dataclass(frozen=True)
class Pair:
    """A learner and a method, with the mean losses of its models."""

    learner: str
    method: str
    losses: Losses


def best_pairs(inputs: Inputs, trained: Trained) -> list[Pair]:
    """Pairs that finished in every replicate, the best first; ceilings are left out: no user has their clips."""
    told: dict[tuple[str, str], list[Losses]] = {}
    for (learner, method, _), row in sorted(trained.told.items()):
        if not inputs.plan.methods[method].ceiling:
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


def deliver(inputs: Inputs, trained: Trained, folder: Path) -> Delivery:
    """Train the best pair on all labelled clips and write it to `folder`; the next pair where that fails.

    Raises:
        DataError: no pair could be trained.
    """
    failed: list[Failure] = []
    for pair in best_pairs(inputs, trained):
        members = _members(pair, trained)
        names = [member.learner for member in members]
        items, errors = _train(inputs, trained, pair.method, names)
        if errors:
            failed += errors
            continue
        shutil.rmtree(folder, ignore_errors=True)
        with tempfile.TemporaryDirectory() as made_in:
            models = [_whole(items[name] / MODEL, inputs.learners.get(name), Path(made_in) / name) for name in names]
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


def _whole(model: Path, pretrained: Pretrained | None, folder: Path) -> Path:
    """The model's directory, or a copy with the pretrained model that it hears through."""
    if pretrained is None or (name := hears_through(model)) is None:
        return model
    shutil.copytree(model, folder)
    copy_encoder(pretrained.folder, folder / name)
    return folder


def _members(pair: Pair, trained: Trained) -> list[Member]:
    """Learners to train, with their temperatures and weights: of a blend those that half of the replicates chose."""
    if pair.learner != BLEND:
        names = [pair.learner]
    else:
        blends = [told for (_, of, _), told in trained.told.items() if of == pair.method and isinstance(told, Blend)]
        votes = Counter(member.learner for told in blends for member in told.members)
        names = [name for name, count in votes.most_common() if 2 * count >= len(blends)] or [
            votes.most_common(1)[0][0]
        ]
    members = []
    for name in names:
        told = [row for (of, method, _), row in trained.told.items() if (of, method) == (name, pair.method)]
        temperature, weight = (geometric_mean(getattr(row, x) for row in told) for x in ("temperature", "weight"))
        members.append(Member(learner=name, temperature=temperature, weight=weight))
    return members


def _train(
    inputs: Inputs, trained: Trained, method: str, learners: Sequence[str]
) -> tuple[dict[str, Path], list[Failure]]:
    """Item of each learner on all labelled clips, and those that failed."""
    jobs = {learner: _on_everything(inputs, trained, learner, method) for learner in learners}
    hear_all(job for job in jobs.values() if isinstance(job, LearnerJob))
    done = perform({name: training(job) if isinstance(job, AstJob) else fitting(job) for name, job in jobs.items()})
    what = f"on {method}, all labelled clips"
    return done.items, [
        Failure(method=f"{name} {what}", seed=inputs.plan.replicates[0], error=failure_text(error))
        for name, error in done.failures.items()
    ]


def _on_everything(inputs: Inputs, trained: Trained, learner: str, method: str) -> AstJob | LearnerJob:
    """The learner's job in its first replicate, on all labelled clips and the further clips of all replicates.

    AST has the strength and the factor that validation chose there, and its last checkpoint is kept.
    """
    first = min(replicate for name, of, replicate in trained.jobs if (name, of) == (learner, method))
    job = trained.jobs[learner, method, first]
    factor = trained.chosen[method, first].factor if isinstance(job, AstJob) else None
    recipe = inputs.plan.methods[method].recipe
    synthetic = _joined([inputs.synthetic[recipe, each].first(factor) for each in inputs.plan.replicates])
    job = replace(job, gold=inputs.everything, validation=None, synthetic=synthetic)
    if isinstance(job, AstJob):
        optim = inputs.optim(inputs.everything, inputs.plan.settings.optim.steps)
        return replace(job, name=f"{learner} on {method}, all clips", optim=optim)
    return job


def _joined(sets: Sequence[ClipSet]) -> ClipSet:
    """Clips of all sets of one folder, each once."""
    found = {row[0]: (row, clip) for clips in sets for row, clip in zip(clips.identity, clips.clips, strict=True)}
    rows = [found[name] for name in sorted(found)]
    return ClipSet(tuple(row for row, _ in rows), sets[0].folder, tuple(clip for _, clip in rows))
