"""Choice among learners and methods, without the test split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

Name = TypeVar("Name")


def best_of(models: Mapping[Name, Mapping[str, Any]]) -> Name:
    """The model of the lowest loss.

    The loss of calibrated probabilities tells models apart better on few clips than the share of right answers does.
    Learners with splits of their own are compared by these, which keep whole groups; the best of them is compared on
    the validation clips with those that have none.

    Args:
        models: `calibrated_loss` on validation clips and `judged_loss` (None = no splits) of each; the first of equals
            is taken.
    """
    judged = [name for name, told in models.items() if told.get("judged_loss") is not None]
    rivals = [min(judged, key=lambda name: float(models[name]["judged_loss"]))] if judged else []
    rivals += [name for name in models if name not in judged]
    return min(rivals, key=lambda name: float(models[name]["calibrated_loss"]))
