"""The idea of the stage: encode captioned audio into shards of latents and tokens, one shard at a time.

A shard is a finished piece of work in the store; audio is read once, and encoded while it is in memory. Read next:
`sources.py` (interface of a source), `procedural.py` (the built-in generator), `recordings.py` (a folder or tar shards,
without the clips of `excluded.py`), `captions.py` (caption files, in one of `formats/`), `index.py` (captions joined
with audio), `encoding.py` (autoencoder and tokenizer), `store.py` (finished shards), `manifest.py` (what later stages
read).
"""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Literal, TypeVar

import numpy as np
import soundfile

from common.audio.signal import loudest_window, pcm16
from common.config.corpus import PrepareCorpusConfig
from common.corpus.shards import ShardWriter, read_audio_shard
from common.errors import DataError, Interrupted
from common.log import Progress, get_logger
from common.runtime.parallel import abandoned, run_all
from components.prepare_corpus.sources import Dropped, Source, SourceClip
from components.prepare_corpus.store import Models, ShardFacts, ShardStore

Made = TypeVar("Made")

log = get_logger("prepare_corpus")


@dataclass
class _Facts:
    """Facts of a shard, collected while it is written."""

    captions: list[str] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    durations_s: list[float] = field(default_factory=list)
    lengths: Counter[int] = field(default_factory=Counter)
    latent_channels: int = 0

    def add(self, clip: SourceClip, rate: int) -> bytes:
        """Count a clip; returns its facts as JSON, as they stand in the shard."""
        duration_s = clip.audio.shape[-1] / rate
        self.captions.append(clip.caption)
        self.durations_s.append(duration_s)
        if clip.label:
            self.labels.add(clip.label)
        facts = {"caption": clip.caption, "label": clip.label, "duration_s": duration_s}
        return json.dumps(facts, sort_keys=True, ensure_ascii=False).encode()

    def of_shard(self, dropped: Dropped) -> ShardFacts:
        return ShardFacts(
            clips=len(self.captions),
            captions=self.captions,
            labels=sorted(self.labels),
            seconds=sum(self.durations_s),
            durations_s=(min(self.durations_s, default=0.0), max(self.durations_s, default=0.0)),
            lengths=self.lengths or None,
            latent_channels=self.latent_channels,
            dropped=dropped,
        )


@dataclass(frozen=True)
class ShardMaker:
    """Maker of the shards of a corpus; picklable for worker processes."""

    source: Source
    settings: PrepareCorpusConfig
    store: ShardStore

    def audio(self, number: int) -> str:
        """Name of audio shard `number`, made unless the store has it."""
        return self.both(None, number)[1]

    def both(self, models: Models | None, number: int) -> tuple[str | None, str]:
        """Names of latent and audio shard `number`, made unless the store has them; audio only with `keep_audio`.

        Without models there are no latents, and audio in any case.
        """
        key, name = self.source.key(number), None
        audio_name = self.store.name("audio", key)
        has_audio = self.store.has(audio_name)
        wants_audio = not has_audio and (models is None or self.settings.keep_audio)
        if models is not None:
            made_of = {"vae": models.vae_hash, "text": models.text_hash, "dtype": self.settings.latent_dtype}
            name = self.store.name("latents", {**key, **made_of})
        if not wants_audio and (name is None or self.store.has(name)):
            return name, audio_name
        # Count latent failures apart: the audio shard may be reused with another tokenizer.
        dropped, unfit, audio_facts, facts = Dropped(), Dropped(), _Facts(), _Facts()
        with self.store.workspace() as folder, ExitStack() as open_files:
            clips = self._read(number, dropped)
            if has_audio:
                dropped = self.store.facts(audio_name).dropped
                file = open_files.enter_context(self.store.open(audio_name))
                clips = (SourceClip(clip.key, clip.audio, clip.caption, clip.label) for clip in read_audio_shard(file))
            if wants_audio:
                writer = open_files.enter_context(ShardWriter(folder / "audio.tar"))
                clips = self._kept(clips, writer, audio_facts)
            if models is not None:
                latents = open_files.enter_context(ShardWriter(folder / "latents.tar"))
                self._encode(models, clips, latents, facts, unfit)
            for _ in clips:
                pass
            open_files.close()
            if wants_audio:
                self.store.put(audio_name, folder / "audio.tar", audio_facts.of_shard(dropped))
            if name is not None:
                unfit.update(dropped)
                self.store.put(name, folder / "latents.tar", facts.of_shard(unfit))
        return name, audio_name

    def first_clips(self, count: int) -> Iterator[np.ndarray]:
        """Audio `(C, T)` of the first clips, a fair sample, since sources are in random or round-robin order.

        Audio shards that are missing are made.
        """

        def every() -> Iterator[np.ndarray]:
            for number in range(self.source.shards):
                with self.store.open(self.audio(number)) as file:
                    for clip in read_audio_shard(file):
                        yield clip.audio

        return islice(every(), count)

    def _encode(
        self, models: Models, clips: Iterator[SourceClip], writer: ShardWriter, facts: _Facts, unfit: Dropped
    ) -> None:
        from components.prepare_corpus.encoding import open_encoder, read_ahead

        encoder = open_encoder(models)
        batch = self.settings.encode_batch if encoder.on_gpu else 1
        longest = round(max(self.settings.durations_s) * self.settings.sample_rate_hz)
        ready = read_ahead(clips, 2 * batch) if encoder.on_gpu else clips

        def fitting() -> Iterator[tuple[SourceClip, np.ndarray]]:
            for clip in ready:
                try:
                    tokens = encoder.token_ids(clip.caption)
                except DataError as error:
                    unfit.add("too_many_tokens", str(error))
                else:
                    yield clip._replace(audio=loudest_window(clip.audio, longest)), tokens

        tokenized = fitting()
        while group := list(islice(tokenized, batch)):
            latents = encoder.encode([clip.audio for clip, _ in group])
            for (clip, tokens), latent in zip(group, latents, strict=True):
                told = facts.add(clip, self.settings.sample_rate_hz)
                facts.latent_channels, length = latent.shape
                facts.lengths[length] += 1
                array = _npy(latent.astype(self.settings.latent_dtype, copy=False))
                writer.add(clip.key, {"latent.npy": array, "tokens.npy": _npy(tokens), "json": told})

    def _read(self, number: int, dropped: Dropped) -> Iterator[SourceClip]:
        """Clips of the source, rounded to 16 bits as FLAC stores them, so that a clip read back is the same."""
        for clip in self.source.clips(number, dropped):
            if abandoned():
                raise Interrupted("the process that started this one has ended; run the same command again to go on")
            yield clip._replace(audio=pcm16(clip.audio).astype(np.float32) / 32768)

    def _kept(self, clips: Iterator[SourceClip], writer: ShardWriter, facts: _Facts) -> Iterator[SourceClip]:
        """The same clips, each after it was written."""
        rate = self.settings.sample_rate_hz
        for clip in clips:
            buffer = io.BytesIO()
            soundfile.write(buffer, pcm16(clip.audio).T, rate, format="FLAC", subtype="PCM_16")
            writer.add(clip.key, {"flac": buffer.getvalue(), "json": facts.add(clip, rate)})
            yield clip


def make_all(
    make: Callable[[int], Made], count: int, workers: int | None = None, start: Literal["fork", "spawn"] = "fork"
) -> list[Made]:
    """Results of `make(number)` for every number below `count`, made in parallel, in order of the numbers."""
    return run_all(make, range(count), workers, start, Progress(log, "shards", count).advance)


def make_shards(maker: ShardMaker, models: Models | None) -> list[tuple[str | None, str]]:
    """Make all latent and audio shards, with one process per GPU or per CPU core; returns their names.

    Without models there are no latents.
    """
    work = partial(maker.both, models)
    if models is not None:
        import torch

        from components.prepare_corpus.encoding import open_encoder

        # This opens none of them.
        if gpus := torch.cuda.device_count():
            return make_all(work, maker.source.shards, gpus, "spawn")
        # Opened before the workers fork, so that all share it.
        open_encoder(models)
    return make_all(work, maker.source.shards)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
