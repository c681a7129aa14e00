"""The loaded text-to-audio model: sampling of latents for a batch of requests, and decoding to finished audio."""

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from common.audio.signal import check_signal, loudest_window, match_loudness, read_mono, resample, to_mono
from common.config.t2a import SynthesizeAudioConfig
from common.diffusion.backend import T2ABackend, load_backend
from common.diffusion.sampling import TextCache, sample
from common.errors import ConfigError
from common.runtime.devices import has_bf16
from common.runtime.parallel import cpu_count
from components.synthesize_audio.requests import Request

PACKAGES = ("torch", "diffusers", "transformers", "numpy", "soundfile", "soxr")
"""Packages that influence a clip's samples."""

_DECODING = Lock()
_decoding_stream = cache(torch.cuda.Stream)


@dataclass(frozen=True)
class Loaded:
    """A loaded model."""

    backend: T2ABackend
    texts: TextCache
    precision: Literal["fp32", "bf16"]

    def environment(self) -> dict[str, object]:
        """Device, precision and package versions; equal environments give bit-equal clips."""
        device = self.backend.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
        versions = {package: version(package) for package in PACKAGES}
        versions["python"] = platform.python_version()
        return {"device": f"{device.type} {name}", "precision": self.precision, "versions": versions}


def devices() -> tuple[str, ...]:
    """Device of each process: every GPU, or one CPU entry per core."""
    return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count())) or ("cpu",) * cpu_count()


def load_model(path: str, device: str, settings: SynthesizeAudioConfig) -> Loaded:
    """Load the model at `path`; the last loaded model of the process is cached.

    Raises ConfigError: the device does not support the requested precision, or the model cannot be compiled.
    """
    return _load(path, device, settings.precision, settings.compile, settings.sampler.batch_size)


@lru_cache(maxsize=1)
def _load(path: str, device: str, wanted: str, compiled: str, batch_size: int) -> Loaded:
    precision = resolve_precision(wanted, device)
    backend = load_backend(path, device)
    if precision == "bf16":
        backend.to_bf16()
    if compiled == "regional":
        compile_blocks(backend.transformer)
    return Loaded(backend, TextCache(backend, batch_size), precision)


def resolve_precision(wanted: str, device: str) -> Literal["fp32", "bf16"]:
    """Resolve `auto` to bf16 on a GPU that computes in it, else to fp32.

    Raises ConfigError: bf16 is requested on a GPU without it.
    """
    able = device.startswith("cuda") and has_bf16()
    if wanted == "bf16" and device.startswith("cuda") and not able:
        name = torch.cuda.get_device_name(device)
        raise ConfigError(f"precision bf16: {name} only emulates it; set synthesize_audio.precision to auto or fp32")
    return "bf16" if wanted == "bf16" or (wanted == "auto" and able) else "fp32"


def compile_blocks(transformer: torch.nn.Module, backend: str = "inductor") -> None:
    """Compile the transformer's blocks one by one; they are alike, so one compilation serves all.

    It happens at the first call, again at a second latent length, and then for any length.

    Raises ConfigError: the model has no list of blocks.
    """
    blocks = getattr(transformer, "transformer_blocks", None)
    if not blocks:
        raise ConfigError(
            f"compile regional: {type(transformer).__name__} has no transformer_blocks; set compile: none"
        )
    for block in blocks:
        block.compile(backend=backend)


@contextmanager
def decoding(device: torch.device) -> Iterator[None]:
    """Context of work on a GPU beside the sampler's, on a CUDA stream of its own; one thread at a time.

    Decoding a clip of 47 s takes several GB, and each stream keeps the memory that it ever took.
    """
    if device.type != "cuda":
        yield
        return
    with _DECODING, torch.cuda.stream(_decoding_stream(device)):
        yield


@dataclass(frozen=True)
class Generated:
    """A finished clip (C, T), float32 in [-1, 1], with its gain and `ok` or the reason code of the signal checks."""

    audio: np.ndarray
    sample_rate_hz: int
    gain_db: float
    signal: str


@torch.no_grad()
def sample_batch(
    backend: T2ABackend, requests: Sequence[Request], settings: SynthesizeAudioConfig, texts: TextCache | None = None
) -> Tensor:
    """Sample the latents of one batch, (B, D, L) float32 on the CPU, in the order of `requests`.

    All latents have the length of the batch's bucket, times `windows`. Each clip is conditioned on its own duration and
    draws noise from its own generator; so it depends neither on the other clips of its batch nor on its position.

    All requests have the same `frames` and `windows`, and all start from noise, or all from a source at one level.
    """
    first = requests[0]
    captions = [request.prompt.caption for request in requests]
    generators = [torch.Generator().manual_seed(request.sampling_seed) for request in requests]
    starts: list[tuple[Tensor, float] | None] = [None] * first.windows
    if first.source:
        encoded = torch.cat([_encode_source(backend, request) for request in requests])
        starts = [(part, first.source.noise_level) for part in encoded.split(first.frames, dim=2)]
    window_s = first.frames * backend.hop_length / backend.sample_rate_hz
    made = [
        sample(
            backend,
            captions,
            [min(request.duration_s - number * window_s, window_s) for request in requests],
            generators,
            settings.sampler,
            first.frames,
            start,
            texts,
        )
        for number, start in enumerate(starts)
    ]
    return torch.cat(made, dim=2)


def _encode_source(backend: T2ABackend, request: Request) -> Tensor:
    """Encode the source clip's loudest part, padded with silence to the bucket's length, to (1, D, L)."""
    audio = read_mono(Path(request.source.path if request.source else ""), backend.sample_rate_hz)
    mono = loudest_window(audio, round(request.duration_s * backend.sample_rate_hz))
    length = request.windows * request.frames * backend.hop_length
    padded = np.pad(mono[:length], (0, max(0, length - len(mono))))
    return backend.encode(torch.from_numpy(padded)[None, None], request.windows).cpu()


def decode(backend: T2ABackend, latent: Tensor, request: Request, settings: SynthesizeAudioConfig) -> Generated:
    """Decode latents (D, L) to a finished clip."""
    with decoding(backend.device):
        audio = backend.decode(latent[None])[0].float().cpu().numpy()
    return finish(audio, request, backend.sample_rate_hz, settings)


def finish(audio: np.ndarray, request: Request, rate: int, settings: SynthesizeAudioConfig) -> Generated:
    """Cut to length, check, match the wanted recording conditions if any, resample, and match the source's loudness.

    One gain for the whole clip brings its RMS level to `request.target_rms_dbfs`, or as near below it as the peak limit
    allows. A clip that fails the checks is kept with its reason code, for the filter to reject. A silent clip gets no
    gain; samples that are not finite become 0, and such a clip gets no gain either.

    `audio` is (C, T) as decoded, at `rate` Hz.
    """
    audio = np.ascontiguousarray(audio[:, : round(request.duration_s * rate)], dtype=np.float32)
    signal = check_signal(to_mono(audio), rate)
    target_hz = settings.sample_rate_hz or rate
    audio = np.nan_to_num(audio, nan=0.0, posinf=0.0, neginf=0.0)
    if signal in ("nan", "silence"):
        return Generated(resample(audio, rate, target_hz), target_hz, 0.0, signal)
    if request.recording:
        audio = request.recording.applied(audio, rate, request.sampling_seed)
    audio = resample(audio, rate, target_hz)
    matched, gain_db = match_loudness(audio, request.target_rms_dbfs, settings.peak_limit_dbfs)
    return Generated(matched, target_hz, float(gain_db), signal)
