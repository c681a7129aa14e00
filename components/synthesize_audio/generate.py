"""Sampling of latents for a batch of requests, and decoding of latents to finished audio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.audio.signal import check_signal, loudest_window, match_loudness, read_audio, resample, rms_dbfs, to_mono
from common.config.t2a import SynthesizeAudioConfig
from common.diffusion.backend import T2ABackend
from common.diffusion.sampling import TextCache, sample
from components.synthesize_audio.model import decoding
from components.synthesize_audio.requests import Request


@dataclass(frozen=True)
class Generated:
    """A finished clip.

    Attributes:
        audio: (C, T) float32 in [-1, 1].
        gain_db: gain applied by loudness matching.
        signal: `ok`, or the reason code of the signal checks.
    """

    audio: np.ndarray
    sample_rate_hz: int
    gain_db: float
    signal: str


def source_level(audio: np.ndarray, window: int) -> float:
    """RMS level in dBFS of a source clip (T,), or of its loudest `window` samples where it is longer."""
    return float(rms_dbfs(loudest_window(audio, window) if len(audio) > window else audio))


@torch.no_grad()
def sample_batch(
    backend: T2ABackend, requests: Sequence[Request], settings: SynthesizeAudioConfig, texts: TextCache | None = None
) -> Tensor:
    """Sample the latents of one batch, (B, D, L) float32 on the CPU, in the order of `requests`.

    All latents have the length of the batch's bucket. Each clip is conditioned on its own duration and draws noise from
    its own generator; so it depends neither on the other clips of its batch nor on its position.

    Args:
        requests: all with the same `frames`; all start from noise, or all from a source at one noise level.
    """
    source = requests[0].source
    return sample(
        backend,
        [request.prompt.caption for request in requests],
        [request.duration_s for request in requests],
        [torch.Generator().manual_seed(request.sampling_seed) for request in requests],
        settings.sampler,
        init_latents=torch.cat([_encode_source(backend, request) for request in requests]) if source else None,
        init_level=source.noise_level if source else None,
        frames=requests[0].frames,
        texts=texts,
    )


def _encode_source(backend: T2ABackend, request: Request) -> Tensor:
    """Encode the source clip's loudest window, padded with silence to the bucket's length, to (1, D, L)."""
    audio, rate = read_audio(Path(request.source.path if request.source else ""))
    mono = loudest_window(resample(to_mono(audio), rate, backend.sample_rate_hz), _samples(backend, request.duration_s))
    length = request.frames * backend.hop_length
    padded = np.pad(mono[:length], (0, max(0, length - len(mono))))
    return backend.encode(torch.from_numpy(padded)[None, None]).cpu()


def _samples(backend: T2ABackend, duration_s: float) -> int:
    return round(duration_s * backend.sample_rate_hz)


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
