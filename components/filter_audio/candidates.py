"""The little that is held in memory of each clip while thousands are judged."""

from __future__ import annotations

from dataclasses import dataclass
from sys import intern

from common.records.clips import SyntheticClip


@dataclass(frozen=True, slots=True)
class Candidate:
    """A clip to be judged.

    Attributes:
        clip_id: of the clip.
        file_name: of its audio.
        seed: the replicate.
        recipe: name of the recipe.
        labels: what it shall sound like: its label, and further ones where clips have several.
        signal: result of the signal checks.
    """

    clip_id: str
    file_name: str
    seed: int
    recipe: str
    labels: tuple[str, ...]
    signal: str

    @classmethod
    def of(cls, clip: SyntheticClip) -> Candidate:
        """The candidate of a record; names that many share are kept once."""
        labels = tuple(map(intern, (clip.label, *clip.further_labels)))
        return cls(clip.clip_id, clip.file_name, clip.seed, intern(clip.recipe), labels, intern(clip.signal))


@dataclass(frozen=True, slots=True)
class Decision:
    """What the filter found out about a clip.

    Attributes:
        clip_id: of the clip.
        reason: why it is rejected; null = accepted.
        score: cosine with the label prompt, null where the signal checks had failed.
        margin: score minus that of the best label that it does not claim.
        nearest_clip_id: nearest gold training clip, or the one that it copies.
        nearest_similarity: cosine of both embeddings.
    """

    clip_id: str
    reason: str | None = None
    score: float | None = None
    margin: float | None = None
    nearest_clip_id: str | None = None
    nearest_similarity: float | None = None

    def on(self, clip: SyntheticClip) -> SyntheticClip:
        """The record with what was found out."""
        return clip.model_copy(
            update={
                "reason": self.reason,
                "clap_score": self.score,
                "clap_margin": self.margin,
                "nearest_clip_id": self.nearest_clip_id,
                "nearest_similarity": self.nearest_similarity,
            }
        )
