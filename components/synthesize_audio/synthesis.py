"""The idea of the stage: generate one clip per prompt, in batches whose latents and clips are items of the store.

Only missing clips are generated. A clip depends on its own request, not on the other clips of its batch or on the
process, so a killed run resumes with the same clips. Read next: requests.py (what is generated, and in which batches),
starts.py (clips to start from in place of noise), generate.py (the model, sampling and decoding), recording.py (the
filter that matches clips to gold), clips.py (records and provenance), run.py (the order of the steps), remake.py (a
clip made again from its provenance).
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.audio.signal import loudest_window, rms_dbfs
from common.config.t2a import SynthesizeAudioConfig
from common.log import Progress, event, get_logger
from common.records.clips import Prompt
from common.records.gold import GoldSet
from common.runtime.parallel import abandoned, cpu_count, run_all
from common.storage.artifacts import artifact_hash
from common.storage.items import ItemStore
from components.synthesize_audio.clips import write_clip
from components.synthesize_audio.generate import Loaded, decode, devices, load_model, sample_batch
from components.synthesize_audio.requests import Request, Source, batch_key, batches, sampling_seed

log = get_logger("synthesize_audio")

LATENTS = "latents.npy"
"""File name of a batch's latents in the item store."""

_STORE_THREADS = 16

Submit = Callable[..., None]
"""Queues `job(*arguments, **named)`. Raises Exception: the error of an earlier job."""


@dataclass(frozen=True)
class Share:
    """Batches of one process, ordered by model, and its threads that decode and write beside the sampler.

    The store receives latents and finished clips.
    """

    batches: tuple[tuple[Request, ...], ...]
    settings: SynthesizeAudioConfig
    store: ItemStore
    device: str
    threads: int
    logged: bool


def generate_share(share: Share) -> Counter[str]:
    """Generate all batches of a share and store their clips.

    While a batch is sampled, the previous one is decoded and written. Its latents are stored first, and the next batch
    waits for that; so a kill costs the sampling of at most one batch.

    Returns numbers of new `clips`, `sampled` clips (without those of stored latents), and `encoded` captions.
    """
    # The number of threads changes the rounding of sums; one thread matches a worker among several.
    torch.set_num_threads(1)
    made: Counter[str] = Counter()
    progress = Progress(log, "batches", len(share.batches)) if share.logged else None
    for path, group in groupby(share.batches, key=lambda batch: batch[0].model_path):
        loaded = load_model(path, share.device, share.settings)
        before = loaded.texts.encoded
        with trailing(share.threads, limit=share.settings.sampler.batch_size) as submit:
            for batch in group:
                if abandoned():
                    return made
                made.update(_generate_batch(share, batch, loaded, submit))
                if progress:
                    progress.advance()
        made.update(encoded=loaded.texts.encoded - before)
    return made


def _generate_batch(share: Share, batch: tuple[Request, ...], loaded: Loaded, submit: Submit) -> Counter[str]:
    settings, store = share.settings, share.store
    missing = _missing(batch, settings, store)
    made = Counter(clips=len(missing))
    key = batch_key(batch, settings)
    if store.has(**key):
        latents = torch.from_numpy(np.load(store.path(**key) / LATENTS, allow_pickle=False))
    else:
        # The whole batch is sampled even if some clips are stored, since the latents' key names the whole batch.
        latents = sample_batch(loaded.backend, batch, settings, loaded.texts)
        made.update(sampled=len(latents))
        # After a kill, or with other audio settings, only decoding is repeated.
        submit(store.get_or_make, partial(_write_latents, latents), **key)
    for request, latent in zip(batch, latents, strict=True):
        if request in missing:
            submit(_finish_clip, share, loaded, request, latent)
    return made


def _missing(batch: Sequence[Request], settings: SynthesizeAudioConfig, store: ItemStore) -> list[Request]:
    """Requests whose clips are not in the store."""
    return [request for request in batch if not store.has(**request.key(settings))]


def _write_latents(latents: Tensor, folder: Path) -> None:
    np.save(folder / LATENTS, latents.numpy(), allow_pickle=False)


def _finish_clip(share: Share, loaded: Loaded, request: Request, latent: Tensor) -> None:
    clip = decode(loaded.backend, latent, request, share.settings)
    write = partial(write_clip, clip=clip, environment=loaded.environment())
    share.store.get_or_make(write, **request.key(share.settings))


def plan_requests(
    prompts: Sequence[Prompt],
    gold: GoldSet,
    models: Mapping[str, Path],
    settings: SynthesizeAudioConfig,
    sources: Mapping[str, Source],
) -> list[Request]:
    """Turn prompts, at least one, into requests; by prompt id, `sources` are what some start from in place of noise.

    A clip has the length of its start, in as many windows of the model as that takes; or of its gold clip, at most a
    window.
    """
    # With several GPUs each process loads its own model; this process needs only the model's sizes.
    where = devices()[0] if len(set(devices())) == 1 else "cpu"
    backend = load_model(str(models[prompts[0].prompt_id]), where, settings).backend
    window, rate = backend.max_frames * backend.hop_length, backend.sample_rate_hz
    hashes = {path: artifact_hash(path) for path in set(models.values())}

    @cache
    def level_dbfs(name: str, windows: int) -> float:
        # RMS level; of a clip that is longer than its windows, that of its loudest part.
        return rms_dbfs(loudest_window(gold.load(gold.clips[name], rate), windows * window))

    requests = []
    for prompt in prompts:
        source, model = sources.get(prompt.prompt_id), models[prompt.prompt_id]
        own_s = gold.clips[prompt.source_clip_id].duration_s
        duration_s = source.duration_s if source else min(own_s, backend.window_s)
        # Of equal length, so that none is a short rest.
        windows = math.ceil(round(duration_s * rate) / window)
        requests.append(
            Request(
                prompt=prompt,
                model_path=str(model),
                model_hash=hashes[model],
                sampling_seed=sampling_seed(prompt),
                duration_s=duration_s,
                frames=backend.frames(duration_s / windows, settings.sampler.bucket_frames),
                target_rms_dbfs=level_dbfs(prompt.source_clip_id, windows),
                source=source,
                windows=windows,
            )
        )
    return requests


def generate_missing(requests: Sequence[Request], settings: SynthesizeAudioConfig, store: ItemStore) -> Counter[str]:
    """Generate all clips that the store lacks, on all devices at once.

    The device or process of a batch does not affect its clips.

    Returns the sum of the counts of `generate_share`. Raises Exception: the error of the first share that failed; clips
    finished by then are kept.
    """
    planned = batches(requests, settings.sampler.batch_size)
    # Threads, because a store on S3 needs one request per clip.
    with ThreadPoolExecutor(_STORE_THREADS) as pool:
        lacks = pool.map(lambda batch: bool(_missing(batch, settings, store)), planned)
        missing = [batch for batch, lacking in zip(planned, lacks, strict=True) if lacking]
    where = devices()[: max(1, len(missing))]
    event(log, "planned", clips=len(requests), batches=len(planned), missing=len(missing), processes=len(where))
    threads = max(1, cpu_count() // len(where))
    shares = [
        Share(tuple(missing[index :: len(where)]), settings, store, device, threads, logged=index == 0)
        for index, device in enumerate(where if missing else ())
    ]
    made = run_all(generate_share, shares, len(where), "fork" if where[0] == "cpu" else "spawn")
    return sum(made, start=Counter())


@contextmanager
def trailing(threads: int, limit: int) -> Iterator[Submit]:
    """Context of a bounded background queue whose jobs start in order of submission; its end waits for all of them.

    Args:
        limit: largest number of waiting and running jobs; submission blocks while it is reached.

    Raises Exception: the error of the first job that failed.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="trailing")
    pending: deque[Future[Any]] = deque()

    def submit(job: Callable[..., object], *arguments: Any, **named: Any) -> None:
        while len(pending) >= limit:
            pending.popleft().result()
        pending.append(pool.submit(job, *arguments, **named))

    try:
        yield submit
        while pending:
            pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
