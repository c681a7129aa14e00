"""Records of corpus clips that are to stand for gold clips."""

from typing import Any

from common.config.recipes import Recipe
from common.records.clips import GoldClip, SyntheticClip

Found = tuple[int, SyntheticClip]
"""Place of a clip among all clips of the corpus's audio shards, and its record."""


def corpus_clip(
    recipe: Recipe, replicate: int, source: GoldClip, rank: int, facts: dict[str, Any], rate: int, **more: Any
) -> SyntheticClip:
    """Record of the corpus clip with `facts` (key, caption, duration_s), as number `rank` of its source, from 0."""
    clip_id = f"{recipe.name}.s{replicate}.{source.clip_id}.{rank}"
    record: dict[str, Any] = {
        "file_name": f"{clip_id}.flac",
        "clip_id": clip_id,
        "caption": facts["caption"],
        "recipe": recipe.name,
        "replicate": replicate,
        "index": rank,
        "duration_s": facts["duration_s"],
        "sample_rate_hz": rate,
        "writer": "corpus",
        "model_hash": "",
        "sampling_seed": 0,
        "sampler": {"corpus_clip": facts["key"]},
        "gain_db": 0.0,
    }
    return SyntheticClip.of(source, **record | more)
