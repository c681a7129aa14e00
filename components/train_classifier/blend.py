"""The blend: the mean of the probabilities of those learners that validation keeps."""

from __future__ import annotations

from collections.abc import Mapping
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


def blend(items: Mapping[str, Path], targets: NDArray[np.floating], multi_label: bool) -> dict[str, Any]:
    """Choose members greedily: the best learner, then each that lowers the loss of the mean on validation.

    Args:
        items: item folder by learner, with its probabilities of the validation clips.
        targets: (N, labels) of these clips.
        multi_label: whether labels are independent.

    Returns:
        Figures with the names of AST's, `members` as {learner, temperature}.
    """
    truth = np.asarray(targets, dtype=np.float64)
    found: dict[str, tuple[float, Floats]] = {}
    for name, item in items.items():
        heard = np.load(item / VALIDATION, allow_pickle=False)
        temperature = fit_temperature(heard, truth, multi_label)
        found[name] = temperature, tempered(heard, temperature, multi_label)
    chosen: list[str] = []
    loss = np.inf

    def with_member(name: str) -> Floats:
        return np.asarray(np.mean([found[each][1] for each in [*chosen, name]], axis=0))

    while len(chosen) < len(found):
        losses = {
            name: cross_entropy(with_member(name), truth, multi_label) for name in sorted(found) if name not in chosen
        }
        best = min(losses, key=lambda name: losses[name])
        if losses[best] > loss * (1 - GAIN):
            break
        chosen, loss = [*chosen, best], losses[best]
    mean = np.mean([found[name][1] for name in chosen], axis=0)
    members = [{"learner": name, "temperature": found[name][0]} for name in chosen]
    return {**validation_figures(mean, truth, multi_label), "members": members}
