"""One corpus clip that is to stand for a gold clip, and its record."""

from __future__ import annotations

from typing import NamedTuple

from common.config.methods import Recipe
from common.records.clips import GoldClip, SyntheticClip


class Found(NamedTuple):
    """A corpus clip found for a gold clip.

    Attributes:
        rank: number among the clips of its source, from 0.
        place: its place among all clips of the corpus's audio shards.
        cosine: of the CLAP embeddings; None where CLAP was not asked.
        clap_hash: hash of that CLAP's folder, or empty.
    """

    recipe: Recipe
    replicate: int
    source: GoldClip
    rank: int
    place: int
    key: str
    caption: str
    duration_s: float
    cosine: float | None = None
    clap_hash: str = ""

    @property
    def clip_id(self) -> str:
        """Id of the clip."""
        return f"{self.recipe.name}.s{self.replicate}.{self.source.clip_id}.{self.rank}"

    def record(self, sample_rate_hz: int) -> SyntheticClip:
        """Record of the clip at a sample rate."""
        return SyntheticClip.of(
            self.source,
            file_name=f"{self.clip_id}.flac",
            clip_id=self.clip_id,
            caption=self.caption,
            recipe=self.recipe.name,
            replicate=self.replicate,
            index=self.rank,
            duration_s=self.duration_s,
            sample_rate_hz=sample_rate_hz,
            writer="corpus",
            model_hash=self.clap_hash,
            sampling_seed=0,
            sampler={"corpus_clip": self.key},
            gain_db=0.0,
            nearest_clip_id=None if self.cosine is None else self.source.clip_id,
            nearest_similarity=self.cosine,
        )
