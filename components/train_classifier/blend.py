"""What each learner says of the validation clips, and the blend: the mean of those that validation keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.contracts.training import Blend, Losses, Member
from common.learners.calibration import cross_entropy, fit_temperature, tempered, validation_figures
from components.train_classifier.jobs import SPLITS, VALIDATION

MEMBERS = "members.json"
GAIN = 0.01
"""A member is added if the loss on validation falls by this share at least: the clips are few."""
Floats = NDArray[np.float64]


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
    """

    validation: Floats
    judged: Floats | None
    targets: Floats
    temperature: float

    @classmethod
    def of(cls, item: Path, targets: Floats, multi_label: bool) -> Heard:
        """Read and calibrate what the model of an item says; `targets` are those of the validation clips."""
        raw = np.load(item / VALIDATION, allow_pickle=False)
        judged = None
        if (item / SPLITS).is_file():
            with np.load(item / SPLITS, allow_pickle=False) as kept:
                judged, own = kept["probabilities"], kept["targets"]
                if not kept["grouped"]:
                    judged, own = np.concatenate([judged, raw], axis=1), np.concatenate([own, targets])
            targets = own
        temperature = fit_temperature((raw if judged is None else judged)[0], targets, multi_label)
        calm = None if judged is None else tempered(judged, temperature, multi_label)
        return cls(tempered(raw, temperature, multi_label), calm, targets, temperature)


def losses(heard: Sequence[Heard], targets: Floats, multi_label: bool) -> Losses:
    """Cross-entropy of the mean of what `heard` says, over all conditions alike; `targets` of the validation clips."""
    validation = np.mean([each.validation for each in heard], axis=0)
    judged = [(each.judged, each.targets) for each in heard if each.judged is not None]
    told = None
    if judged:
        told = cross_entropy(np.mean([rows for rows, _ in judged], axis=0), judged[0][1], multi_label)
    return Losses(calibrated_loss=cross_entropy(validation, targets, multi_label), judged_loss=told)


def blend(heard: Mapping[str, Heard], targets: Floats, multi_label: bool, fair: bool = True) -> Blend:
    """Choose members greedily: the best learner, then each that lowers the loss of the mean.

    Learners with splits come first, by their judges; then the others, on validation, where it is fair to them.

    Args:
        heard: by learner.
        targets: (N, labels) of the validation clips.
        multi_label: whether labels are independent.
        fair: whether no validation clip shares its group with a training clip. If some do, validation flatters learners
            without splits, and these join no others.
    """

    def loss(names: Sequence[str], figure: str) -> float:
        return float(getattr(losses([heard[name] for name in names], targets, multi_label), figure))

    chosen: list[str] = []
    for figure, names in (
        ("judged_loss", [name for name in sorted(heard) if heard[name].judged is not None]),
        ("calibrated_loss", [name for name in sorted(heard) if heard[name].judged is None]),
    ):
        while names and (fair or not chosen or figure == "judged_loss"):
            before = loss(chosen, figure) if chosen else np.inf
            found = {name: loss([*chosen, name], figure) for name in names}
            best = min(found, key=lambda name: found[name])
            if found[best] > before * (1 - GAIN):
                break
            chosen.append(best)
            names.remove(best)
    members = [heard[name] for name in chosen]
    return Blend(
        **validation_figures(np.mean([each.validation[0] for each in members], axis=0), targets, multi_label),
        **dict(losses(members, targets, multi_label)),
        members=[Member(learner=name, temperature=heard[name].temperature) for name in chosen],
    )
