"""The in-memory record of one clip during filtering, and the filter's decision on it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from sys import intern
from typing import NamedTuple

from common.records.clips import SyntheticClip


@dataclass(frozen=True, slots=True)
class Candidate:
    """A clip to be filtered.

    Attributes:
        labels: requested labels: the main one, and further ones in a multi-label dataset.
        signal: result of the signal checks: `ok`, or a reason code.
    """

    clip_id: str
    file_name: str
    replicate: int
    recipe: str
    labels: tuple[str, ...]
    signal: str
    source: str

    @classmethod
    def of(cls, clip: SyntheticClip) -> Candidate:
        """Candidate of a record; repeated names are interned to save memory."""
        labels = tuple(map(intern, clip.labels))
        source = intern(clip.source_clip_id)
        return cls(
            clip.clip_id, clip.file_name, clip.replicate, intern(clip.recipe), labels, intern(clip.signal), source
        )


class Opinion(NamedTuple):
    """What the second judge says of a clip: the probability of its label, the lowest of several, and whether it passes.

    The probability is None where the judge has no say; both are where it was not asked.
    """

    probability: float | None
    passes: bool | None


@dataclass(frozen=True, slots=True)
class Decision:
    """The filter's result for one clip, in the fields of its record; scores are None if the signal checks failed.

    Attributes:
        reason: reason code of a rejected clip; None = accepted.
        clap_margin: score minus the highest cosine with a label that the clip does not claim.
        nearest_clip_id: nearest gold training clip, or the one that the clip copies.
        second_passes: opinion of the second judge; None if it was not asked.
    """

    clip_id: str
    reason: str | None = None
    clap_score: float | None = None
    clap_margin: float | None = None
    nearest_clip_id: str | None = None
    nearest_similarity: float | None = None
    second_probability: float | None = None
    second_passes: bool | None = None

    def on(self, clip: SyntheticClip) -> SyntheticClip:
        """The record with this decision filled in."""
        return clip.model_copy(update=asdict(self))
