"""Matching of generated clips to the recording conditions of gold: one filter for each replicate and model."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path

import torch

from common.audio.matching import Recording, fit_recording
from common.audio.signal import to_mono
from common.config.recipes import LOSERS
from common.config.t2a import SynthesizeAudioConfig
from common.records.audio_folder import clips_hash
from common.records.clips import GoldClip, template_prompts
from common.records.gold import GoldSet
from common.storage import read_json, write_json
from common.storage.items import ItemStore
from components.synthesize_audio.generate import decode, devices, load_model, sample_batch
from components.synthesize_audio.requests import Request, batches
from components.synthesize_audio.synthesis import plan_requests

REFERENCES = 32
"""Gold clips, at most, whose template clips a filter is fitted to."""
_FILE = "recording.json"


def with_recordings(
    requests: Sequence[Request],
    matched: Collection[str],
    gold: GoldSet,
    settings: SynthesizeAudioConfig,
    store: ItemStore,
) -> list[Request]:
    """Requests whose clips will be matched to the training clips of their replicate.

    Of prompts that are not `matched` they stay as they are.
    """

    @cache
    def recording(replicate: int, model: str) -> Recording | None:
        return _recording(replicate, model, gold, settings, store)

    return [
        replace(request, recording=recording(request.prompt.replicate, request.model_path))
        if request.prompt.prompt_id in matched
        else request
        for request in requests
    ]


def _recording(
    replicate: int, model: str, gold: GoldSet, settings: SynthesizeAudioConfig, store: ItemStore
) -> Recording | None:
    """The filter of a replicate and a model, fitted to template clips of the replicate's training clips."""
    train = gold.train(replicate)
    clips = {clip.clip_id: clip for clip in train[:: -(-len(train) // REFERENCES)]}
    prompts = template_prompts(clips.values(), replicate, 1, LOSERS.name)
    requests = plan_requests(prompts, gold, {prompt.prompt_id: Path(model) for prompt in prompts}, settings, {})
    wanted = [request.key(settings) for request in requests]
    key: dict[str, object] = {"recording": wanted, "gold": clips_hash(gold.path, clips.values())}
    write = partial(_fit, requests, clips, gold, settings)
    told = read_json(store.get_or_make(write, **key) / _FILE)
    return Recording(tuple(told["gains_db"]), tuple(told["noise_db"])) if told else None


def _fit(
    requests: Sequence[Request],
    clips: dict[str, GoldClip],
    gold: GoldSet,
    settings: SynthesizeAudioConfig,
    folder: Path,
) -> None:
    # As in the processes that generate: the number of threads changes the rounding of sums.
    torch.set_num_threads(1)
    loaded = load_model(requests[0].model_path, devices()[0], settings)
    rate, made = loaded.backend.sample_rate_hz, []
    own = settings.model_copy(update={"sample_rate_hz": None})
    for batch in batches(requests, settings.sampler.batch_size):
        latents = sample_batch(loaded.backend, batch, settings, loaded.texts)
        made += [
            to_mono(decode(loaded.backend, latent, request, own).audio)
            for request, latent in zip(batch, latents, strict=True)
        ]
    found = fit_recording(made, [gold.load(clip, rate) for clip in clips.values()], rate)
    write_json(folder / _FILE, asdict(found) if found else {})
