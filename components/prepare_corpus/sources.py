"""Sources of corpus clips, cut into shards: the interface and the built-in generator; `recordings` has the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from common.config.corpus import PrepareCorpusConfig
from common.errors import DataError
from common.procedural.captions import write_caption
from common.procedural.clips import CLASSES, render_clip
from common.runtime.seeding import numpy_generator
from components.prepare_corpus.survey import Dropped, SourceClip, Survey


class Source(Protocol):
    """Clips in shards; picklable for worker processes."""

    @property
    def shards(self) -> int:
        """Number of shards."""
        ...

    def key(self, number: int) -> dict[str, object]:
        """Inputs of shard `number`, as JSON values."""
        ...

    def clips(self, number: int, dropped: Dropped) -> Iterator[SourceClip]:
        """Clips of shard `number`, in fixed order; unusable ones are counted in `dropped`.

        Raises DataError: the shard cannot be read as a whole.
        """
        ...

    def captions(self) -> Iterator[str] | None:
        """All captions; None if they come only with the audio."""
        ...

    def survey(self) -> Survey:
        """Counts that are known before audio is read."""
        ...

    def absent(self, found: int) -> int:
        """Number of captions without audio, after all shards were read and `found` captions had audio."""
        ...


def shard_size(clips: int, size: int) -> int:
    """Clips per shard: `size`, or less, so that there are at least two shards and one can be held out."""
    return max(1, min(size, -(-clips // 2)))


@dataclass(frozen=True)
class ProceduralSource:
    """Clips of the built-in generator."""

    config: PrepareCorpusConfig
    seed: int

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.config.clips // self._size)

    @property
    def _size(self) -> int:
        return shard_size(self.config.clips, self.config.clips_per_shard)

    def _range(self, number: int) -> range:
        return range(number * self._size, min((number + 1) * self._size, self.config.clips))

    def key(self, number: int) -> dict[str, object]:
        """Settings, seed and clip numbers of shard `number`."""
        names = {"source", "durations_s", "sample_rate_hz", "channels"}
        clips = self._range(number)
        return {
            "settings": self.config.model_dump(mode="json", include=names),
            "seed": self.seed,
            "clips": [clips.start, clips.stop],
        }

    def clips(self, number: int, dropped: Dropped) -> Iterator[SourceClip]:
        """Clips of shard `number`."""
        for index in self._range(number):
            rng = numpy_generator(self.seed, "corpus", index)
            # Round-robin labels, so that every shard holds all of them.
            label = CLASSES[index % len(CLASSES)]
            duration_s = float(rng.choice(np.array(self.config.durations_s)))
            clip = render_clip(label, rng, duration_s, self.config.sample_rate_hz)
            audio = to_channels(clip.audio, self.config.channels)
            yield SourceClip(f"{index:09d}", audio, write_caption(label, rng, clip.attributes), label)

    def captions(self) -> None:
        """None: captions describe random draws made with the audio."""
        return None

    def survey(self) -> Survey:
        """Counts of the generator, which drops nothing."""
        return Survey(self.config.clips, Dropped(), 0)

    def absent(self, found: int) -> int:
        """Zero: every caption has audio."""
        return 0


@dataclass(frozen=True)
class JoinedSource:
    """Recordings and generated clips, with the shards of both evenly interleaved.

    The last shards are held out; interleaving puts both kinds among them.
    """

    recordings: Source
    procedural: ProceduralSource

    @property
    def shards(self) -> int:
        """Number of shards of both."""
        return self.recordings.shards + self.procedural.shards

    def _place(self, number: int) -> tuple[Source, int, str]:
        counts = (self.recordings.shards, self.procedural.shards)
        places = [((shard + 1) / count, kind, shard) for kind, count in enumerate(counts) for shard in range(count)]
        _, kind, shard = sorted(places)[number]
        return (self.procedural, shard, "procedural-") if kind else (self.recordings, shard, "")

    def key(self, number: int) -> dict[str, object]:
        """Key of the shard in the source that it comes from."""
        source, shard, _ = self._place(number)
        return source.key(shard)

    def clips(self, number: int, dropped: Dropped) -> Iterator[SourceClip]:
        """Clips of shard `number`; keys of generated clips begin with `procedural-`."""
        source, shard, prefix = self._place(number)
        for clip in source.clips(shard, dropped):
            yield clip._replace(key=prefix + clip.key)

    def captions(self) -> None:
        """None: captions of generated clips come with the audio."""
        return None

    def survey(self) -> Survey:
        """Counts of the recordings, plus the generated clips."""
        found = self.recordings.survey()
        return found._replace(captions=found.captions + self.procedural.config.clips)

    def absent(self, found: int) -> int:
        """Number of captions of recordings without audio."""
        return self.recordings.absent(found - self.procedural.config.clips)


def to_channels(audio: np.ndarray, channels: int) -> np.ndarray:
    """Audio `(T,)` or `(C, T)` as `(channels, T)`: the first channels, or the first one repeated."""
    audio = np.atleast_2d(audio)
    return audio[:channels] if len(audio) >= channels else np.repeat(audio[:1], channels, axis=0)


def check_dropped(dropped: Dropped, total: int, allowed: float) -> None:
    """Fail if too many clips are unusable.

    Raises DataError: more than `allowed` (a fraction) of `total` were dropped; the message has reasons and examples.
    """
    if dropped.total > allowed * total:
        counts = ", ".join(f"{code} {count}" for code, count in dropped.counts.most_common() if code != "duplicate")
        raise DataError(
            f"{dropped.total} of {total} corpus clips are unusable ({counts}), at most {allowed:.0%} allowed: "
            f"{'; '.join(dropped.examples[:3])}. Repair or remove them, or raise prepare_corpus.max_bad_fraction"
        )
