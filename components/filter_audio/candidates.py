"""The in-memory record of one clip during filtering, and the filter's decision on it."""

from __future__ import annotations

from dataclasses import dataclass
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
        labels = tuple(map(intern, (clip.label, *clip.further_labels)))
        source = intern(clip.source_clip_id)
        return cls(
            clip.clip_id, clip.file_name, clip.replicate, intern(clip.recipe), labels, intern(clip.signal), source
        )


class Opinion(NamedTuple):
    """What the second judge says of a clip: the probability of its label, the lowest of several, and whether it passes.

    The probability is None where the judge has no say.
    """

    probability: float | None
    passes: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """The filter's result for one clip.

    Attributes:
        reason: reason code of a rejected clip; None = accepted.
        score: cosine with the label prompt; None if the signal checks failed.
        margin: score minus the highest cosine with a label that the clip does not claim.
        nearest_clip_id: nearest gold training clip, or the one that the clip copies.
        nearest_similarity: cosine of both embeddings.
        second: opinion of the second judge; None if it was not asked.
    """

    clip_id: str
    reason: str | None = None
    score: float | None = None
    margin: float | None = None
    nearest_clip_id: str | None = None
    nearest_similarity: float | None = None
    second: Opinion | None = None

    def on(self, clip: SyntheticClip) -> SyntheticClip:
        """The record with this decision filled in."""
        return clip.model_copy(
            update={
                "reason": self.reason,
                "clap_score": self.score,
                "clap_margin": self.margin,
                "nearest_clip_id": self.nearest_clip_id,
                "nearest_similarity": self.nearest_similarity,
                "second_probability": self.second.probability if self.second else None,
                "second_passes": self.second.passes if self.second else None,
            }
        )
