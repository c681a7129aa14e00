"""What each learner says of the validation clips, and the blend: the mean of those that validation keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.learners.calibration import cross_entropy, fit_temperature, tempered, validation_figures
from components.train_classifier.jobs import VALIDATION

MEMBERS = "members.json"
GAIN = 0.01
"""A member is added if the loss on validation falls by this share at least: the clips are few."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Heard:
    """Probabilities (N, labels) of the validation clips, calibrated by the temperature, and their cross-entropy."""

    probabilities: Floats
    temperature: float
    loss: float

    @classmethod
    def of(cls, item: Path, targets: Floats, multi_label: bool) -> Heard:
        """Read and calibrate what the model of an item says."""
        raw = np.load(item / VALIDATION, allow_pickle=False)
        temperature = fit_temperature(raw, targets, multi_label)
        probabilities = tempered(raw, temperature, multi_label)
        return cls(probabilities, temperature, cross_entropy(probabilities, targets, multi_label))


def blend(heard: Mapping[str, Heard], targets: Floats, multi_label: bool) -> dict[str, Any]:
    """Choose members greedily: the best learner, then each that lowers the loss of the mean on validation.

    Args:
        heard: by learner.
        targets: (N, labels) of the validation clips.
        multi_label: whether labels are independent.

    Returns:
        Figures with the names of AST's, and `members` as {learner, temperature}.
    """
    chosen: list[str] = []
    loss = np.inf
    while len(chosen) < len(heard):
        losses = {
            name: cross_entropy(_mean(heard, [*chosen, name]), targets, multi_label)
            for name in sorted(heard)
            if name not in chosen
        }
        best = min(losses, key=lambda name: losses[name])
        if losses[best] > loss * (1 - GAIN):
            break
        chosen, loss = [*chosen, best], losses[best]
    members = [{"learner": name, "temperature": heard[name].temperature} for name in chosen]
    return {**validation_figures(_mean(heard, chosen), targets, multi_label), "members": members}


def _mean(heard: Mapping[str, Heard], names: list[str]) -> Floats:
    return np.asarray(np.mean([heard[name].probabilities for name in names], axis=0))
