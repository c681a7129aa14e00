"""The clips of a source, and the account of what a source leaves out."""

from __future__ import annotations

from collections import Counter
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
    """What was left out, counted by reason.

    Attributes:
        counts: number by reason code.
        examples: the first ones in words.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, code: str, message: str) -> None:
        """Count one."""
        self.counts[code] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(message)

    def update(self, other: Dropped) -> None:
        """Count all of `other`."""
        self.counts.update(other.counts)
        self.examples += other.examples[: EXAMPLES - len(self.examples)]

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"counts": dict(self.counts), "examples": self.examples}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Dropped:
        """What `as_json` gave."""
        return cls(Counter(values["counts"]), list(values["examples"]))

    @property
    def total(self) -> int:
        """Of all reasons but duplicates, which do no harm."""
        return self.counts.total() - self.counts["duplicate"]


class Survey(NamedTuple):
    """What is known of a source before audio is read.

    Attributes:
        captions: how many there are, usable or not.
        dropped: of them.
        excluded: captions of clips that belong to datasets.
    """

    captions: int
    dropped: Dropped
    excluded: int
