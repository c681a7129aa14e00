"""Audio for a batch of requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from common.audio import check_signal, loudest_window, match_loudness, rms_dbfs, to_mono
from common.config.t2a import SynthesizeAudioConfig
from common.diffusion.backend import StableAudio
from common.diffusion.sampling import sample
from components.synthesize_audio.requests import Request


@dataclass(frozen=True)
class Generated:
    """A finished clip.

    Attributes:
        audio: (C, T) float32 in [-1, 1].
        gain_db: what loudness matching applied.
        signal: `ok`, or the reason code of the signal checks.
    """

    audio: np.ndarray
    gain_db: float
    signal: str


def source_level(audio: np.ndarray, window: int) -> float:
    """RMS level in dBFS of a source clip (T,), of its loudest `window` samples where it is longer."""
    return float(rms_dbfs(loudest_window(audio, window) if len(audio) > window else audio))


@torch.no_grad()
def generate(backend: StableAudio, requests: Sequence[Request], settings: SynthesizeAudioConfig) -> list[Generated]:
    """Generate one batch, in the order of `requests`.

    All latents are as long as the batch's bucket, each clip is conditioned on its own duration and
    its noise comes from its own generator: a clip depends on no other clip of its batch.

    Args:
        backend: the model that all requests name.
        requests: all with the same `frames`.
        settings: sampler and peak limit.
    """
    latents = sample(
        backend,
        [request.prompt.caption for request in requests],
        [request.duration_s for request in requests],
        [torch.Generator().manual_seed(request.sampling_seed) for request in requests],
        settings.sampler,
        frames=requests[0].frames,
    )
    decoded = backend.decode(latents).float().cpu().numpy()
    return [
        finish(audio, request, backend.sample_rate_hz, settings.peak_limit_dbfs)
        for audio, request in zip(decoded, requests, strict=True)
    ]


def finish(audio: np.ndarray, request: Request, rate: int, peak_limit_dbfs: float) -> Generated:
    """Cut to length, check, and match the source clip's loudness.

    The rule: one gain for the whole clip brings its RMS level to that of the source clip (of its
    loudest window where it is longer than the clip), or as near below it as the peak limit
    allows. A clip that fails the checks is kept with its reason code for the filter to reject; a
    silent one gets no gain, and samples that are not finite become 0.

    Args:
        audio: (C, T) as decoded.
        request: what was asked for.
        rate: sampling rate in Hz.
        peak_limit_dbfs: of the result.
    """
    audio = np.ascontiguousarray(audio[:, : round(request.duration_s * rate)], dtype=np.float32)
    signal = check_signal(to_mono(audio), rate)
    audio = np.nan_to_num(audio, nan=0.0, posinf=0.0, neginf=0.0)
    if signal in ("nan", "silence"):
        return Generated(audio, 0.0, signal)
    matched, gain_db = match_loudness(audio, request.target_rms_dbfs, peak_limit_dbfs)
    return Generated(matched, float(gain_db), signal)
