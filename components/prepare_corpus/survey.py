"""Clips of a source, and counts of the clips that a source leaves out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

EXAMPLES = 20


class SourceClip(NamedTuple):
    """A clip before encoding; `audio` is `(C, T)` float32 at the corpus's rate, `key` unique in the corpus."""

    key: str
    audio: np.ndarray
    caption: str
    label: str | None


@dataclass
class Dropped:
    """Clips left out, counted by reason."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, code: str, message: str) -> None:
        """Count one clip."""
        self.counts[code] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(message)

    def update(self, other: Dropped) -> None:
        """Add the counts and examples of `other`."""
        self.counts.update(other.counts)
        self.examples += other.examples[: EXAMPLES - len(self.examples)]

    def as_json(self) -> dict[str, object]:
        """As JSON values."""
        return {"counts": dict(self.counts), "examples": self.examples}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Dropped:
        """Inverse of `as_json`."""
        return cls(Counter(values["counts"]), list(values["examples"]))

    @property
    def total(self) -> int:
        """Number of clips for all reasons but duplicates, which do no harm."""
        return self.counts.total() - self.counts["duplicate"]


class Survey(NamedTuple):
    """Counts of a source that are known before audio is read.

    Attributes:
        excluded: number of captions of clips that belong to datasets.
    """

    captions: int
    dropped: Dropped
    excluded: int
