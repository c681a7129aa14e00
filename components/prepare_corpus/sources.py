"""Sources of corpus clips, cut into shards: the interface, and the counts of what a source leaves out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from common.config.corpus import PrepareCorpusConfig
from common.errors import DataError

_EXAMPLES = 20


class SourceClip(NamedTuple):
    """A clip before encoding; `audio` is `(C, T)` float32 at the corpus's rate, `key` unique in the corpus."""

    key: str
    audio: np.ndarray
    caption: str
    label: str | None


@dataclass
class Dropped:
    """Clips left out, counted by reason, with examples."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, code: str, message: str) -> None:
        """Count one clip."""
        self.update(Dropped(Counter([code]), [message]))

    def update(self, other: Dropped) -> None:
        """Add the counts and examples of `other`."""
        self.counts.update(other.counts)
        self.examples += other.examples[: _EXAMPLES - len(self.examples)]

    @property
    def total(self) -> int:
        """Number of clips for all reasons but duplicates, which do no harm."""
        return self.counts.total() - self.counts["duplicate"]

    def check(self, total: int, allowed: float) -> None:
        """Raise `DataError` if more than `allowed` (a fraction) of `total` clips were dropped."""
        if self.total > allowed * total:
            counts = ", ".join(f"{code} {count}" for code, count in self.counts.most_common() if code != "duplicate")
            raise DataError(
                f"{self.total} of {total} corpus clips are unusable ({counts}), at most {allowed:.0%} allowed: "
                f"{'; '.join(self.examples[:3])}. Repair or remove them, or raise prepare_corpus.max_bad_fraction"
            )


class Survey(NamedTuple):
    """Counts of a source that are known before audio is read; `excluded` are captions of clips of datasets."""

    captions: int
    dropped: Dropped
    excluded: int


@dataclass(frozen=True)
class Source(ABC):
    """Clips in shards; picklable for worker processes."""

    config: PrepareCorpusConfig
    seed: int

    @property
    @abstractmethod
    def shards(self) -> int:
        """Number of shards."""

    def key(self, number: int) -> dict[str, object]:
        """Inputs of shard `number`, as JSON values."""
        names = {"source", "audio_dir", "durations_s", "audio_s", "sample_rate_hz", "channels"}
        return {"settings": self.config.model_dump(mode="json", include=names), "seed": self.seed}

    @abstractmethod
    def clips(self, number: int, dropped: Dropped) -> Iterator[SourceClip]:
        """Clips of shard `number`, in fixed order; unusable ones are counted in `dropped`.

        Raises DataError: the shard cannot be read as a whole.
        """

    def captions(self) -> Iterator[str] | None:
        """All captions; None if they come only with the audio."""
        return None

    def survey(self) -> Survey:
        """Counts that are known before audio is read."""
        return Survey(self.config.clips, Dropped(), 0)

    def absent(self, found: int) -> int:
        """Number of captions without audio, after all shards were read and `found` captions had audio."""
        return 0


def shard_count(clips: int, config: PrepareCorpusConfig) -> int:
    """Number of shards of `clips_per_shard`, or less, so that one of a small corpus is what is to be held out."""
    return min(clips, max(-(-clips // config.clips_per_shard), int(1 / config.heldout_fraction)))


def shard_range(number: int, clips: int, config: PrepareCorpusConfig) -> range:
    """Places of the clips of shard `number`."""
    count = shard_count(clips, config)
    return range(number * clips // count, (number + 1) * clips // count)


def to_channels(audio: np.ndarray, channels: int) -> np.ndarray:
    """Audio `(T,)` or `(C, T)` as `(channels, T)`: the first channels, or the first one repeated."""
    audio = np.atleast_2d(audio)
    return audio[:channels] if len(audio) >= channels else np.repeat(audio[:1], channels, axis=0)
