"""Choice among learners and methods, without the test split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from common.contracts.training import Losses

Name = TypeVar("Name")


def best_of(models: Mapping[Name, Losses]) -> Name:
    """The model of the lowest loss.

    The loss of calibrated probabilities tells models apart better on few clips than the share of right answers does.
    Learners with splits of their own are compared by these, which keep whole groups; the best of them is compared on
    the validation clips with those that have none.

    Args:
        models: losses of each; the first of equals is taken.
    """
    judged = {name: told.judged_loss for name, told in models.items() if told.judged_loss is not None}
    rivals = [min(judged, key=lambda name: judged[name])] if judged else []
    rivals += [name for name in models if name not in judged]
    return min(rivals, key=lambda name: models[name].calibrated_loss)
