"""What a dataset is split into, and what is to be said about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from common.datasets.rows import Drop
from components.prepare_dataset.clips import Clip

SHARED_SEED = 0
"""Of draws that all replicates share."""


@dataclass(frozen=True)
class Warned:
    """Something about the data or its split that a reader of the results should know.

    Attributes:
        code: a short name.
        message: a sentence.
        of_test: whether it depends on the clips of the test split.
    """

    code: str
    message: str
    of_test: bool = False


@dataclass
class Splits:
    """The outcome.

    Attributes:
        test: clips of the test split.
        test_copies: clips of the test split that are left out.
        pool: clips that training may draw from.
        replicates: seed to (training clips, validation clips).
        oracle: training clips of the oracle.
        shared: whether all replicates have the same clips.
        dropped: clips outside the test split that are left out because of where they stand.
        test_dropped: `test_copies` with reasons.
        warnings: see `Warned`.
        test_by: `official`, `group` or `clip`.
        validation: whence it comes: `official`, `remaining` or `training`.
        validation_by: `official`, `group` or `clip`.
    """

    test: list[Clip] = field(default_factory=list)
    test_copies: list[Clip] = field(default_factory=list)
    pool: list[Clip] = field(default_factory=list)
    official_validation: list[Clip] = field(default_factory=list)
    replicates: dict[int, tuple[list[Clip], list[Clip]]] = field(default_factory=dict)
    oracle: list[Clip] = field(default_factory=list)
    shared: bool = False
    dropped: list[Drop] = field(default_factory=list)
    test_dropped: list[Drop] = field(default_factory=list)
    warnings: list[Warned] = field(default_factory=list)
    test_by: Literal["official", "group", "clip"] = "official"
    validation: Literal["official", "remaining", "training"] = "official"
    validation_by: Literal["official", "group", "clip"] = "official"

    def warn(self, code: str, message: str, of_test: bool = False) -> None:
        """Add a warning, once."""
        if Warned(code, message, of_test) not in self.warnings:
            self.warnings.append(Warned(code, message, of_test))
