"""Corpus clips that were found to stand for gold clips."""

from typing import Any, NamedTuple

from common.config.recipes import Recipe
from common.corpus.shards import CorpusClip
from common.records.clips import GoldClip, SyntheticClip


class Found(NamedTuple):
    """A corpus clip that is to stand for a gold clip.

    Attributes:
        place: of the clip among all clips of the corpus's audio shards.
        rank: its number among those of its gold clip, `source`, from 0.
        judged: what further fields of its record say.
    """

    place: int
    recipe: Recipe
    replicate: int
    source: GoldClip
    rank: int
    judged: dict[str, Any]

    def record(self, clip: CorpusClip, duration_s: float, rate: int) -> SyntheticClip:
        """Record of `clip`, the corpus's clip at that place, of which `duration_s` at `rate` are taken."""
        clip_id = f"{self.recipe.name}.s{self.replicate}.{self.source.clip_id}.{self.rank}"
        fields: dict[str, Any] = {
            "file_name": f"{clip_id}.flac",
            "clip_id": clip_id,
            "caption": clip.caption,
            "recipe": self.recipe.name,
            "replicate": self.replicate,
            "index": self.rank,
            "duration_s": duration_s,
            "sample_rate_hz": rate,
            "writer": "corpus",
            "model_hash": "",
            "sampling_seed": 0,
            "sampler": {"corpus_clip": clip.key},
            "gain_db": 0.0,
        }
        return SyntheticClip.of(self.source, **fields | self.judged)
