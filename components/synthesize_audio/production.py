"""Batches as pieces of work: generate what is missing, keep every clip in the item store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch

from common.audio import write_flac
from common.config.t2a import SynthesizeAudioConfig
from common.diffusion.backend import StableAudio, model_hash
from common.diffusion.buckets import bucket_frames
from common.gold import GoldSet
from common.items import ItemStore
from common.log import Progress, event, get_logger
from common.parallel import run_items
from common.records import Prompt, SyntheticClip
from common.storage import read_json, write_json
from components.synthesize_audio.generate import Generated, generate, source_level
from components.synthesize_audio.requests import Request, batches, make_requests, synthetic_clip

log = get_logger("synthesize_audio")

AUDIO, RECORD = "clip.flac", "made.json"
"""Files of a finished clip in the item store."""


@dataclass(frozen=True)
class Batch:
    """Requests that share model and latent length.

    Attributes:
        requests: at most the sampler's batch size.
        settings: of the stage.
        store: where finished clips are kept.
    """

    requests: tuple[Request, ...]
    settings: SynthesizeAudioConfig
    store: ItemStore

    @property
    def finished(self) -> bool:
        """Whether the store has all clips of the batch."""
        return all(self.store.has(**request.key(self.settings)) for request in self.requests)


def device() -> str:
    """Where models run."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@lru_cache(maxsize=1)
def load_model(path: str) -> StableAudio:
    """The model at `path`, loaded once per process while batches of one model follow each other."""
    return StableAudio.load(path, device())


def generate_batch(batch: Batch) -> int:
    """Generate a batch and store its clips.

    The whole batch is generated even when some of its clips are stored: a clip is bit-equal only at
    its own place in its own batch.

    Returns:
        How many clips were new.
    """
    # Sums come out differently with other numbers of threads; a worker of several has one.
    torch.set_num_threads(1)
    backend = load_model(batch.requests[0].model_path)
    new = 0
    for request, clip in zip(batch.requests, generate(backend, batch.requests, batch.settings), strict=True):
        key = request.key(batch.settings)
        new += not batch.store.has(**key)
        batch.store.get_or_make(partial(_write, clip=clip, rate=backend.sample_rate_hz), **key)
    return new


def _write(folder: Path, clip: Generated, rate: int) -> None:
    write_flac(folder / AUDIO, clip.audio, rate)
    write_json(
        folder / RECORD,
        {
            "duration_s": clip.audio.shape[-1] / rate,
            "sample_rate_hz": rate,
            "gain_db": clip.gain_db,
            "signal": clip.signal,
        },
    )


def plan_requests(
    prompts: Sequence[Prompt], gold: GoldSet, models: Mapping[str, Path], bucket_width: int
) -> list[Request]:
    """Prompts with model, seed, length and loudness.

    Args:
        prompts: at least one.
        gold: has their source clips.
        models: prompt id to the folder of its model; all of one architecture.
        bucket_width: latents are rounded up to a multiple of this many frames.
    """
    backend = load_model(str(models[prompts[0].prompt_id]))
    sources = {prompt.source_clip_id: gold.clips[prompt.source_clip_id] for prompt in prompts}
    durations = {name: min(clip.duration_s, backend.window_s) for name, clip in sources.items()}
    window, rate = backend.max_frames * backend.hop_length, backend.sample_rate_hz
    return make_requests(
        prompts,
        models=models,
        hashes={path: model_hash(path) for path in set(models.values())},
        durations_s=durations,
        frames={name: bucket_frames(backend, duration_s, bucket_width) for name, duration_s in durations.items()},
        levels_dbfs={name: source_level(gold.load(clip, rate), window) for name, clip in sources.items()},
    )


def generate_missing(requests: Sequence[Request], settings: SynthesizeAudioConfig, store: ItemStore) -> int:
    """Bring the clips of all requests into the store.

    Returns:
        How many were not there.
    """
    planned = [Batch(part, settings, store) for part in batches(requests, settings.sampler.batch_size)]
    missing = [batch for batch in planned if not batch.finished]
    event(log, "planned", clips=len(requests), batches=len(planned), missing=len(missing))
    progress, new = Progress(log, "batches", len(missing)), 0
    for _, result in run_items(generate_batch, missing, workers=None if device() == "cpu" else 1):
        if isinstance(result, BaseException):
            raise result
        new += result
        progress.advance()
    return new


def finished_clips(
    requests: Sequence[Request], settings: SynthesizeAudioConfig, store: ItemStore
) -> tuple[list[SyntheticClip], dict[str, Path]]:
    """Records of all requests' clips by clip id, and the files in the store."""
    ordered = sorted(requests, key=lambda request: request.prompt.prompt_id)
    items = {request.prompt.prompt_id: store.path(**request.key(settings)) for request in ordered}
    clips = [
        synthetic_clip(request, settings, made=read_json(items[request.prompt.prompt_id] / RECORD))
        for request in ordered
    ]
    return clips, {clip_id: item / AUDIO for clip_id, item in items.items()}
