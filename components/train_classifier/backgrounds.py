"""Clips of the pretraining corpus that are mixed with others as background noise."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from common.audio import resample, to_mono
from common.corpus import Corpus
from common.errors import DataError
from common.hashing import hash_json


@dataclass(frozen=True)
class Backgrounds:
    """The first clips of a corpus's training part; equal when the audio is.

    Attributes:
        identity: hash of the shards and the number.
        corpus: the artifact.
        clips: how many.
    """

    identity: str
    corpus: Path = field(compare=False)
    clips: int

    @classmethod
    def of(cls, corpus: Path, clips: int) -> Backgrounds:
        """Those of a corpus; no audio is read.

        Raises:
            DataError: the manifest is of another version.
        """
        shards = [shard.sha256 for shard in Corpus(corpus).shards_of("audio", "train")]
        return cls(hash_json([shards, clips]), corpus, clips)


@lru_cache(maxsize=1)
def load_backgrounds(found: Backgrounds, sample_rate_hz: int) -> tuple[np.ndarray, ...]:
    """Waveforms (T,) float32 at `sample_rate_hz`; fewer where the corpus has fewer.

    Raises:
        DataError: the corpus has no audio, or a shard is damaged.
    """
    clips = islice(Corpus(found.corpus).audio("train"), found.clips)
    made = tuple(resample(to_mono(clip.audio), clip.sample_rate_hz, sample_rate_hz) for clip in clips)
    if not made:
        raise DataError(f"{found.corpus} has no training clips to take background noise from; leave the method out")
    return made
