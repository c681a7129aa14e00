"""Result of splitting a dataset, with its warnings."""

from __future__ import annotations

from dataclasses import dataclass, field

from common.contracts.gold import Drop, SplitBy, ValidationFrom
from components.prepare_dataset.clips import Clip

SHARED_SEED = 0
"""Seed of draws that all replicates share."""


@dataclass(frozen=True)
class Warned:
    """A warning about the data or its split, for readers of the results.

    Attributes:
        of_test: whether the warning depends on the clips of the test split.
    """

    code: str
    message: str
    of_test: bool = False


@dataclass
class Splits:
    """Splits of a dataset.

    Attributes:
        test_copies: clips of the test split that are left out as copies of training or validation clips.
        pool: clips that training may draw from.
        replicates: (training clips, validation clips) by replicate.
        shared: whether all replicates have the same clips.
        dropped: clips outside the test split that are left out as copies of clips in another split, or because their
            group is in a given test split.
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
    test_by: SplitBy = "official"
    validation: ValidationFrom = "official"
    validation_by: SplitBy = "official"

    def warn(self, code: str, message: str, of_test: bool = False) -> None:
        """Add a warning unless it is there already."""
        if Warned(code, message, of_test) not in self.warnings:
            self.warnings.append(Warned(code, message, of_test))
