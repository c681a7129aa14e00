"""Sources of corpus clips, cut into shards: the interface, the built-in generator, counts of what is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from common.config.corpus import PrepareCorpusConfig, PrepareCorpusPlan
from common.errors import ConfigError, DataError
from common.procedural.captions import write_caption
from common.procedural.clips import CLASSES, render_clip
from common.runtime.seeding import numpy_generator
from common.storage.items import ItemStore

_EXAMPLES = 20


class SourceClip(NamedTuple):
    """A clip before encoding; `audio` is `(C, T)` float32 at the corpus's rate, `key` unique in the corpus."""

    key: str
    audio: np.ndarray
    caption: str
    label: str | None


class Dropped:
    """Clips left out, counted by reason, with examples; `Dropped(**vars(dropped))` is a copy."""

    def __init__(self, counts: Mapping[str, int] | None = None, examples: Iterable[str] = ()) -> None:
        self.counts, self.examples = Counter(counts or {}), list(examples)

    def add(self, code: str, message: str) -> None:
        """Count one clip."""
        self.update(Dropped({code: 1}, [message]))

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
class Source:
    """Clips in shards; picklable for worker processes."""

    config: PrepareCorpusConfig
    seed: int

    @property
    def shards(self) -> int:
        """Number of shards."""
        raise NotImplementedError

    def key(self, number: int) -> dict[str, object]:
        """Inputs of shard `number`, as JSON values."""
        names = {"source", "audio_dir", "durations_s", "sample_rate_hz", "channels"}
        return {"settings": self.config.model_dump(mode="json", include=names), "seed": self.seed}

    def clips(self, number: int, dropped: Dropped) -> Iterator[SourceClip]:
        """Clips of shard `number`, in fixed order; unusable ones are counted in `dropped`.

        Raises DataError: the shard cannot be read as a whole.
        """
        raise NotImplementedError

    def captions(self) -> Iterator[str] | None:
        """All captions; None if they come only with the audio."""
        return None

    def survey(self) -> Survey:
        """Counts that are known before audio is read."""
        return Survey(self.config.clips, Dropped(), 0)

    def absent(self, found: int) -> int:
        """Number of captions without audio, after all shards were read and `found` captions had audio."""
        return 0


def shard_size(clips: int, size: int) -> int:
    """Clips per shard: `size`, or less, so that there are at least two shards and one can be held out."""
    return max(1, min(size, -(-clips // 2)))


class _Procedural(Source):
    """Clips of the built-in generator, whose captions describe random draws made with the audio."""

    @property
    def shards(self) -> int:
        return -(-self.config.clips // self._size)

    @property
    def _size(self) -> int:
        return shard_size(self.config.clips, self.config.clips_per_shard)

    def _range(self, number: int) -> range:
        return range(number * self._size, min((number + 1) * self._size, self.config.clips))

    def key(self, number: int) -> dict[str, object]:
        clips = self._range(number)
        return {**super().key(number), "clips": [clips.start, clips.stop]}

    def clips(self, number: int, dropped: Dropped) -> Iterator[SourceClip]:
        for index in self._range(number):
            rng = numpy_generator(self.seed, "corpus", index)
            # Round-robin labels, so that every shard holds all of them.
            label = CLASSES[index % len(CLASSES)]
            duration_s = float(rng.choice(np.array(self.config.durations_s)))
            clip = render_clip(label, rng, duration_s, self.config.sample_rate_hz)
            audio = to_channels(clip.audio, self.config.channels)
            yield SourceClip(f"{index:09d}", audio, write_caption(label, rng, clip.attributes), label)


@dataclass(frozen=True)
class _Joined(Source):
    """Recordings and generated clips, with the shards of both evenly interleaved.

    The last shards are held out; interleaving puts both kinds among them.
    """

    recordings: Source
    procedural: _Procedural

    @property
    def shards(self) -> int:
        return self.recordings.shards + self.procedural.shards

    def _place(self, number: int) -> tuple[Source, int, str]:
        counts = (self.recordings.shards, self.procedural.shards)
        places = [((shard + 1) / count, kind, shard) for kind, count in enumerate(counts) for shard in range(count)]
        _, kind, shard = sorted(places)[number]
        return (self.procedural, shard, "procedural-") if kind else (self.recordings, shard, "")

    def key(self, number: int) -> dict[str, object]:
        source, shard, _ = self._place(number)
        return source.key(shard)

    def clips(self, number: int, dropped: Dropped) -> Iterator[SourceClip]:
        source, shard, prefix = self._place(number)
        for clip in source.clips(shard, dropped):
            yield clip._replace(key=prefix + clip.key)

    def survey(self) -> Survey:
        found = self.recordings.survey()
        return found._replace(captions=found.captions + self.procedural.config.clips)

    def absent(self, found: int) -> int:
        return self.recordings.absent(found - self.procedural.config.clips)


def open_source(plan: PrepareCorpusPlan, items: ItemStore) -> Source:
    """Source named in the settings.

    Raises:
        ConfigError: paths are missing.
        DataError: captions or audio cannot be read.
    """
    settings = plan.settings
    if settings.source == "procedural":
        return _Procedural(settings, plan.seed)
    from components.prepare_corpus.recordings import open_recordings

    if not settings.audio_dir or not settings.captions_file:
        raise ConfigError(
            f"prepare_corpus: source is `{settings.source}`, but audio_dir and captions_file are not set; for example "
            "OVERRIDES='prepare_corpus.audio_dir=/data/audioset prepare_corpus.captions_file=/data/captions.csv'"
        )
    recordings = open_recordings(settings, plan.seed, plan.excluded_ids_files, items)
    if not settings.procedural_clips:
        return recordings
    generator = settings.model_copy(
        update={"source": "procedural", "audio_dir": None, "clips": settings.procedural_clips}
    )
    return _Joined(settings, plan.seed, recordings, _Procedural(generator, plan.seed))


def to_channels(audio: np.ndarray, channels: int) -> np.ndarray:
    """Audio `(T,)` or `(C, T)` as `(channels, T)`: the first channels, or the first one repeated."""
    audio = np.atleast_2d(audio)
    return audio[:channels] if len(audio) >= channels else np.repeat(audio[:1], channels, axis=0)
