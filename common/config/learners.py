"""Learners that a run tries on every method's clips, as data."""

from __future__ import annotations

from collections.abc import Iterable

from common.config.base import Frozen
from common.errors import ConfigError, unknown_name


class Learner(Frozen):
    """A way from labelled clips to a classifier.

    Attributes:
        title: name in tables.
        linear: whether it is a logistic regression on features that no training changes; else it trains a network.
    """

    title: str
    linear: bool = False


AST = "ast"
"""The paper's learner. It is always trained; its figures are those of the methods."""

LEARNERS: dict[str, Learner] = {
    AST: Learner(title="AST, fine-tuned"),
    "probe": Learner(title="AST, frozen, with logistic regression", linear=True),
    "stats": Learner(title="log-mel statistics with logistic regression", linear=True),
}


def checked_learners(names: Iterable[str]) -> tuple[str, ...]:
    """Check the names of learners and return them.

    Raises:
        ConfigError: a name is unknown or stands twice.
    """
    listed = tuple(names)
    for name in listed:
        if name not in LEARNERS:
            raise unknown_name("learner", name, LEARNERS)
    if len(set(listed)) < len(listed):
        raise ConfigError(f"learners: {', '.join(sorted({x for x in listed if listed.count(x) > 1}))} named twice")
    return listed
