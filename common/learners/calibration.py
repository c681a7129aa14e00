"""Calibration of probabilities by one temperature (arXiv 1706.04599), validation figures, and choice by them."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, softmax

from common.classifier.scores import macro_f1, multi_label_macro_f1, multi_label_map
from common.config.learners import BLEND
from common.contracts.training import Losses, Member

Name = TypeVar("Name")
Floats = NDArray[np.float64]
TEMPERATURES = np.geomspace(0.25, 16, 25)
LEAST = 1e-6
"""Probabilities are cut off this far from 0 and 1 before they become logits."""


def tempered(probabilities: Floats, temperature: float, multi_label: bool) -> Floats:
    """Probabilities (…, labels) whose logits are divided by `temperature`."""
    kept = np.clip(probabilities, LEAST, 1 - LEAST)
    if multi_label:
        return np.asarray(expit(logit(kept) / temperature))
    return np.asarray(softmax(np.log(kept) / temperature, axis=-1))


def blended(heard: Iterable[tuple[Floats, Member]], multi_label: bool) -> Floats:
    """Weighted mean of the tempered probabilities (…, labels) of the members of a blend."""
    return weighted_mean((tempered(told, member.temperature, multi_label), member.weight) for told, member in heard)


def weighted_mean(parts: Iterable[tuple[Floats, float]]) -> Floats:
    """Mean of arrays of one shape, each with its weight."""
    rows, weights = zip(*parts, strict=True)
    return np.asarray(np.average(rows, axis=0, weights=weights))


def fit_temperature(probabilities: Floats, targets: Floats, multi_label: bool) -> float:
    """Temperature of the lowest cross-entropy, among `TEMPERATURES`."""
    losses = [cross_entropy(tempered(probabilities, each, multi_label), targets, multi_label) for each in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


def cross_entropy(probabilities: Floats, targets: Floats, multi_label: bool) -> float:
    """Mean cross-entropy of probabilities (…, N, labels), of each label where they are independent."""
    kept = np.clip(probabilities, LEAST, 1 - LEAST)
    if multi_label:
        return float(-np.mean(targets * np.log(kept) + (1 - targets) * np.log(1 - kept)))
    return float(-np.mean(np.log(kept[..., np.arange(len(targets)), targets.argmax(axis=1)])))


def validation_figures(probabilities: Floats, targets: Floats, multi_label: bool) -> dict[str, float]:
    """`val_loss`, `val_macro_f1`, and `val_accuracy` (or `val_map` for several labels)."""
    loss = {"val_loss": cross_entropy(probabilities, targets, multi_label)}
    if multi_label:
        truth = targets > 0
        return {
            "val_map": multi_label_map(truth, probabilities),
            "val_macro_f1": multi_label_macro_f1(truth, probabilities),
            **loss,
        }
    ids, guess = targets.argmax(axis=1), probabilities.argmax(axis=1)
    return {"val_accuracy": float((ids == guess).mean()), "val_macro_f1": macro_f1(ids, guess), **loss}


def best_of(models: Mapping[Name, Losses], learner: Callable[[Name], str]) -> Name:
    """The model of the lowest loss, the first of equals; of learners with splits a blend, where there is one.

    The loss of calibrated probabilities tells models apart better on few clips than the share of right answers does.
    Learners with splits of their own are compared by these, which keep whole groups; the best of them is compared on
    the validation clips with those that have none. `learner` names that of a model.
    """
    judged = {name: told.judged_loss for name, told in models.items() if told.judged_loss is not None}
    blends = [name for name in judged if learner(name) == BLEND]
    rivals = [min(blends or judged, key=lambda name: judged[name])] if judged else []
    rivals += [name for name in models if name not in judged]
    return min(rivals, key=lambda name: models[name].calibrated_loss)
