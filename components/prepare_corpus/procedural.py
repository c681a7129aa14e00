"""The built-in generator as a source of corpus clips, alone or beside recordings."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from common.config.corpus import PrepareCorpusPlan
from common.errors import ConfigError
from common.procedural.captions import write_caption
from common.procedural.clips import CLASSES, render_clip
from common.runtime.seeding import numpy_generator
from common.storage.items import ItemStore
from components.prepare_corpus.sources import Dropped, Source, SourceClip, Survey, shard_count, shard_range, to_channels


class _Procedural(Source):
    """Clips of the built-in generator, whose captions describe random draws made with the audio."""

    @property
    def shards(self) -> int:
        return shard_count(self.config.clips, self.config)

    def key(self, number: int) -> dict[str, object]:
        clips = shard_range(number, self.config.clips, self.config)
        return {**super().key(number), "clips": [clips.start, clips.stop]}

    def clips(self, number: int, dropped: Dropped) -> Iterator[SourceClip]:
        for index in shard_range(number, self.config.clips, self.config):
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
