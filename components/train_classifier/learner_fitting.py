"""Fitting of a learner, as an item of the store.

Settings are chosen by repeated splits of training and validation clips together: the few validation clips alone tell
them apart badly. The learner is then fitted to the training clips and scored on validation clips, as AST is. Losses are
means over the clips as they are and over their recorded copies, for another recorder must not change an answer. Clips
beyond the gold ones, synthetic or augmented copies, enter with a weight that the splits choose, 0 among them.
"""

import itertools
import shutil
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from torch import nn

from common.classifier.inference import probabilities
from common.config.learners import find_learner
from common.contracts.base import read, write
from common.contracts.training import Fit, Strength, Trial
from common.learners.calibration import cross_entropy, fit_temperature, tempered, validation_figures
from common.learners.front_ends import Features
from common.learners.model import head_logits
from common.log import event, get_logger
from common.runtime.seeding import derive_seed
from common.runtime.work import Task, item_of, obtain, perform
from common.storage import write_json
from components.train_classifier.job import MODEL, RESULT, SECONDS, SPLITS, VALIDATION, LearnerJob
from components.train_classifier.learner_kinds import Rows, copies_of, feature_parts, features_of, kind_of

Floats = NDArray[np.float64]
log = get_logger("train_classifier")


class Tried(NamedTuple):
    """A trial, its further clips, and what it says of the clips that the first split does not fit to.

    These are calibrated probabilities (conditions, N, labels).
    """

    trial: Trial
    further: Rows
    unseen: Floats


def hear_all(jobs: Iterable[LearnerJob]) -> None:
    """Compute the features of all clips of the jobs, each once; a job whose clips fail meets the error again."""
    parts = [
        part
        for job in jobs
        for clips, copies in ((job.gold, True), (job.validation, True), (job.synthetic, False))
        for part in (feature_parts(job.learner, job.pretrained, clips, job.store, copies) if clips else ())
    ]
    perform({item_of(part): part for part in parts})


def fitting(job: LearnerJob) -> Task:
    """Fitting of the job's learner; the item is like AST's.

    It has `model/`, `result.json`, `validation.npy` and `splits.npz` (what the first split did not fit to).
    """
    return Task(job.store, job.key(), partial(_make, job))


def _make(job: LearnerJob, folder: Path) -> None:
    start = time.monotonic()
    real, splits = _Real.of(job), _splits(job)
    none = Rows.none(len(job.labels))
    if job.plain:
        tried = [
            _trial(job, real, splits, option, 0.0, None, none)
            for option in kind_of(job.learner).options(job.settings.learners)
        ]
        best = min(tried, key=lambda each: each.trial.loss)
    else:
        alone = obtain(fitting(job.alone()))
        told = read(Fit, alone / RESULT)
        with np.load(alone / SPLITS, allow_pickle=False) as kept:
            best = Tried(told.chosen, none, kept["probabilities"])
        tried = []
        slow, later = find_learner(job.learner).slow, kind_of(job.learner).further_options
        options = later(job.settings.learners) if later else (best.trial.option,)
        for strength in job.strengths[len(job.strengths) // 2 :][:1] if slow else job.strengths:
            further = _further(job, strength)
            weights = [weight for weight in job.settings.learners.synthetic_weights if weight]
            for weight, option in itertools.product(weights[-1:] if slow else weights, options):
                tried.append(_trial(job, real, splits, option, weight, strength, further))
        best = min([best, *tried], key=lambda each: each.trial.loss)
        if not best.trial.weight:
            shutil.copytree(alone, folder, dirs_exist_ok=True)
            write(folder / RESULT, told.model_copy(update={"tried": [each.trial for each in tried]}))
            write_json(folder / SECONDS, time.monotonic() - start)
            return
    trial = best.trial
    head = _fit(job, real, np.arange(len(job.gold.clips)), trial, best.further)
    (folder / MODEL).mkdir()
    kind_of(job.learner).save(job, head, trial.temperature, folder / MODEL)
    figures = {}
    if job.validation is not None:
        held = np.arange(len(job.gold.clips), len(real.features))
        heard = probabilities(real.logits(head, held) / trial.temperature, job.multi_label)
        figures = validation_figures(heard[0], real.targets[held], job.multi_label)
        np.save(folder / VALIDATION, heard)
    np.savez(folder / SPLITS, probabilities=best.unseen, targets=real.targets[splits[0][1]], grouped=_grouped(job))
    result = Fit(
        **figures, chosen=trial, further_clips=len(best.further.features), tried=[each.trial for each in tried]
    )
    write(folder / RESULT, result)
    write_json(folder / SECONDS, time.monotonic() - start)
    shown = {name: value for name, value in figures.items() if name in ("val_accuracy", "val_map")}
    event(log, "fitted", name=job.name, weight=trial.weight, split_score=trial.score, **shown)


@dataclass(frozen=True)
class _Real:
    """Gold and validation clips together, in this order: features of each and of its recorded copies."""

    features: list[list[Features]]
    targets: Floats

    @classmethod
    def of(cls, job: LearnerJob) -> Self:
        sets = [job.gold, *([job.validation] if job.validation else [])]
        rows = [
            row for clips in sets for row in features_of(job.learner, job.pretrained, clips, job.store, copies=True)
        ]
        targets = np.concatenate([clips.targets(len(job.labels)) for clips in sets]).astype(np.float64)
        return cls(rows, targets)

    def logits(self, head: nn.Module, places: NDArray[np.int64]) -> Floats:
        """(conditions, places, labels) of the clips at `places`, first as they are, then as each recorded copy."""
        told = zip(*(self.features[place] for place in places), strict=True)
        rows = head_logits(head, [each for condition in told for each in condition])
        return rows.reshape(-1, len(places), rows.shape[-1])

    def rows(self, places: NDArray[np.int64]) -> Rows:
        """The clips at `places` with their copies."""
        found = [(place, each) for place in places for each in self.features[place]]
        of = np.array([place for place, _ in found], dtype=np.int64)
        return Rows([each for _, each in found], self.targets[of], of)


def _trial(
    job: LearnerJob,
    real: _Real,
    splits: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    option: Any,
    weight: float,
    strength: Strength | None,
    further: Rows,
) -> Tried:
    """Fit one side of each split, predict the other; the loss is that of the best temperature."""
    setting = Trial(option=option, weight=weight, strength=strength, loss=0.0, score=0.0, temperature=1.0)
    logits, truth = [], []
    for fit, scored in splits:
        logits.append(real.logits(_fit(job, real, fit, setting, further), scored))
        truth.append(real.targets[scored])
    outputs, targets = probabilities(np.concatenate(logits, axis=1), job.multi_label), np.concatenate(truth)
    temperature = fit_temperature(outputs[0], targets, job.multi_label)
    heard = tempered(outputs, temperature, job.multi_label)
    score = validation_figures(heard[0], targets, job.multi_label)["val_map" if job.multi_label else "val_accuracy"]
    loss, unseen = cross_entropy(heard, targets, job.multi_label), heard[:, : len(splits[0][1])]
    told = {"loss": loss, "score": score, "temperature": temperature}
    return Tried(setting.model_copy(update=told), further, unseen)


def _fit(job: LearnerJob, real: _Real, places: NDArray[np.int64], trial: Trial, further: Rows) -> nn.Module:
    """Fit to the real clips at `places` and to the further clips that come from them, or from none."""
    further = further.of(places) if trial.weight else Rows.none(len(job.labels))
    share = trial.weight / (1 + trial.weight) if len(further.features) else 0.0
    return kind_of(job.learner).fit(job, real.rows(places), further, share, trial.option, trial.strength)


def _splits(job: LearnerJob) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Halves of training and validation clips together, by class and whole groups: places to fit, places to score."""
    ids = np.array([clip.label_id for clip in job.real_clips])
    made, slow = [], find_learner(job.learner).slow
    for repeat in range(1 if slow else job.settings.learners.splits):
        seed = derive_seed(job.replicate, "splits", repeat)
        fold = (StratifiedGroupKFold if _grouped(job) else StratifiedKFold)(2, shuffle=True, random_state=seed)
        try:
            with warnings.catch_warnings():
                # A class of one clip lies on one side.
                warnings.simplefilter("ignore", UserWarning)
                halves = list(fold.split(np.zeros(len(ids)), ids, _groups(job)))
        except ValueError:
            # One group, or a single clip in every class.
            halves = []
        made += halves[:1] if slow else halves
    usable = [(fit, score) for fit, score in made if len(fit) and len(score)]
    if usable:
        return usable
    count, every = len(job.gold.clips), np.arange(len(ids))
    # The given split stands; a single set is judged by itself.
    return [(every[:count], every[count:] if len(ids) > count else every)]


def _groups(job: LearnerJob) -> list[str]:
    return [getattr(clip, "group", None) or clip.clip_id for clip in job.real_clips]


def _grouped(job: LearnerJob) -> bool:
    """Whether some clips belong together, so that splits keep whole groups."""
    groups = _groups(job)
    return len(set(groups)) < len(groups)


def _further(job: LearnerJob, strength: Strength | None) -> Rows:
    """Synthetic clips, and copies of gold and of synthetic clips under an augmentation of waveforms."""
    made = Rows.none(len(job.labels))
    if job.synthetic.clips:
        rows = features_of(job.learner, job.pretrained, job.synthetic, job.store, copies=False)
        targets = job.synthetic.targets(len(job.labels)).astype(np.float64)
        made = made.joined(Rows([row[0] for row in rows], targets, job.sources))
    if job.augmentation:
        for clips, sources in ((job.gold, np.arange(len(job.gold.clips))), (job.synthetic, job.sources)):
            made = made.joined(copies_of(job, clips, sources, strength))
    return made
