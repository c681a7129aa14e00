"""What a run has trained, and its folders in the artifact."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.config.learners import AST, BLEND, PROBE_FIRST, find_learner
from common.contracts.base import read
from common.contracts.training import Blend, Calibrated, Chosen, Failure, Fit, Fitted, Learners, ProbeFirst, Training
from common.errors import failure_text
from common.learners.architectures import copy_encoder
from common.learners.front_ends import ENCODER
from common.storage import read_json
from components.train_classifier.inputs import ORACLE, Inputs
from components.train_classifier.job import MODEL, RESULT, SECONDS, AstJob, LearnerJob

FOLDER, ENCODERS = "learners", "encoders"
Cell = tuple[str, str, int]
"""Learner, method and replicate."""


@dataclass
class Trained:
    """What was trained, by cell.

    Attributes:
        jobs: those begun; of AST those that validation chose.
        items: those finished.
        told: what validation clips say of these, and of blends.
        chosen: figures of AST, by method and replicate.
        best_classic: the classic augmentation that did best for AST on gold alone, by replicate.
        oracle: item folder; None = its training failed, or there are no generated clips to judge.
    """

    jobs: dict[Cell, AstJob | LearnerJob] = field(default_factory=dict)
    items: dict[Cell, Path] = field(default_factory=dict)
    told: dict[Cell, Calibrated | Blend] = field(default_factory=dict)
    chosen: dict[tuple[str, int], Chosen] = field(default_factory=dict)
    best_classic: dict[int, str] = field(default_factory=dict)
    oracle: Path | None = None
    failures: list[Failure] = field(default_factory=list)

    def fail(self, name: str, replicate: int, error: Exception, **classic: Any) -> None:
        """Note that a training failed."""
        self.failures.append(Failure(method=name, seed=replicate, error=failure_text(error), **classic))


def write_models(inputs: Inputs, trained: Trained, folder: Path) -> Learners:
    """Copy each model to `<method>/<replicate>/` (AST) or `learners/<learner>/<method>/<replicate>/`, and the oracle.

    An encoder that learners hear through is copied once, to `encoders/<learner>/`. Returns content of learners.json.
    """
    figures: Learners = {_name(*cell): told for cell, told in trained.told.items()}
    for (learner, *cell), item in sorted(trained.items.items()):
        name = _name(learner, *cell)
        copy_model(item, folder / (_name(*cell) if learner == AST else f"{FOLDER}/{name}"))
        if learner != AST:
            whole, part = (ProbeFirst, Training) if learner == PROBE_FIRST else (Fitted, Fit)
            figures[name] = whole(**dict(figures[name]), **dict(read(part, item / RESULT)))
    if trained.oracle is not None:
        copy_model(trained.oracle, folder / ORACLE)
    for learner in sorted({name for name, _, _ in trained.items if find_learner(name).frozen == ENCODER}):
        copy_encoder(inputs.learners[learner].folder, folder / ENCODERS / learner)
    return figures


def _name(*cell: object) -> str:
    return "/".join(map(str, cell))


def copy_model(item: Path, target: Path) -> None:
    """Copy the model of a finished training."""
    # A retried task finds the files of its first attempt.
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(item / MODEL, target)


def seconds(trained: Trained) -> dict[str, dict[str, float]]:
    """Mean seconds of a training with the choice of its settings, by learner and method.

    Of a blend: those of all learners that it chose from. AST's are those of the chosen training.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for (learner, method, _), item in sorted(trained.items.items()):
        found.setdefault(learner, {}).setdefault(method, []).append(float(read_json(item / SECONDS)))
    means = {x: {m: sum(own) / len(own) for m, own in cells.items()} for x, cells in found.items()}
    blended = {method for learner, method, _ in trained.told if learner == BLEND}
    sums = {m: sum(cells[m] for cells in means.values() if m in cells) for m in sorted(blended)}
    return {**means, **({BLEND: sums} if sums else {})}
