"""Classic augmentation of waveforms: copies of each clip, made once before training."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from common.audio.signal import resample, to_mono
from common.config.augmentations import Augmentation, Clip
from common.corpus.shards import Corpus
from common.errors import DataError
from common.runtime.seeding import numpy_generator
from common.storage.hashing import hash_json


def augmented_copies(
    augmentation: Augmentation,
    waveform: np.ndarray,
    sample_rate_hz: int,
    strength: float | str,
    seed: int,
    clip_id: str,
    backgrounds: Sequence[np.ndarray] = (),
) -> list[np.ndarray]:
    """Copies (T,) float32 of a clip (T,); the clip's id seeds the draws, so that they do not depend on other clips."""
    clip = Clip(waveform, sample_rate_hz, numpy_generator(seed, augmentation.name, clip_id), backgrounds)
    with _own_global_draws():
        return [augmentation.change(clip, strength) for _ in range(augmentation.copies)]


@contextmanager
def _own_global_draws() -> Iterator[None]:
    """Context that restores Python's and numpy's process-wide generators; audiomentations draws from both."""
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@dataclass(frozen=True)
class Backgrounds:
    """First clips of a corpus's training split; equal when shards and number of clips are."""

    identity: str
    corpus: Path = field(compare=False)
    clips: int

    @classmethod
    def of(cls, corpus: Path, clips: int) -> Backgrounds:
        """Describe the backgrounds of a corpus without reading audio.

        Raises DataError: the manifest has another version.
        """
        shards = [shard.sha256 for shard in Corpus(corpus).shards_of("audio", "train")]
        return cls(hash_json([shards, clips]), corpus, clips)


@lru_cache(maxsize=1)
def load_backgrounds(found: Backgrounds, sample_rate_hz: int) -> tuple[np.ndarray, ...]:
    """Load the backgrounds as waveforms (T,) float32 at `sample_rate_hz`; fewer where the corpus has fewer.

    Raises DataError: the corpus has no audio, or a shard is damaged.
    """
    clips = islice(Corpus(found.corpus).audio("train"), found.clips)
    made = tuple(resample(to_mono(clip.audio), clip.sample_rate_hz, sample_rate_hz) for clip in clips)
    if not made:
        raise DataError(f"{found.corpus} has no training clips to take background noise from; leave the method out")
    return made
