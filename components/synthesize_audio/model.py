"""Loading of the text-to-audio model for generation: device, precision, compilation."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from threading import Lock
from typing import Literal

import torch

from common.config.t2a import SynthesizeAudioConfig
from common.diffusion.backend import T2ABackend, load_backend
from common.diffusion.sampling import TextCache
from common.errors import ConfigError
from common.runtime.devices import has_bf16
from common.runtime.parallel import cpu_count

PACKAGES = ("torch", "diffusers", "transformers", "numpy", "soundfile", "soxr")
"""Packages that influence a clip's samples."""

_DECODING = Lock()


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

    Args:
        transformer: compiled at its first call, again at a second latent length, and then for any length.

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


@cache
def _decoding_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
