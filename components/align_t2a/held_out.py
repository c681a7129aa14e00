"""Prediction error of the diffusion model on gold validation clips, under fixed noise.

Training never sees these clips; their error distinguishes learning the small dataset's sound from
memorising its clips.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.diffusion.backend import T2ABackend, error
from common.diffusion.text import Condition
from common.records.clips import GoldClip
from common.records.text import template_caption
from common.runtime.seeding import derive_seed
from components.align_t2a.encoding import encode_clips
from components.align_t2a.pairs import equalize, fit_length


@dataclass(frozen=True)
class HeldOutBatch:
    """Validation clips of one latent length L.

    Attributes:
        latents: (N, D, L).
    """

    clip_ids: tuple[str, ...]
    latents: Tensor
    condition: Condition


HeldOut = tuple[HeldOutBatch, ...]
"""All validation clips, by latent length; empty if there are none."""


@torch.no_grad()
def encode_held_out(
    backend: T2ABackend, clips: Iterable[tuple[GoldClip, np.ndarray]], bucket_width: int, peak_limit_dbfs: float
) -> HeldOut:
    """Encode validation clips in the same way as winners; silent clips are left out.

    Args:
        clips: records with audio (T,) at the model's rate.
        bucket_width: latent lengths are rounded up to a multiple of this many frames.
    """
    window = backend.max_frames * backend.hop_length
    opened: dict[int, list[tuple[GoldClip, float, Tensor]]] = {}
    for clip, audio in clips:
        length = min(len(audio), window)
        audible, _ = equalize(fit_length(audio, length), [], peak_limit_dbfs)
        if audible is None:
            continue
        duration_s = length / backend.sample_rate_hz
        frames = backend.frames(duration_s, bucket_width)
        opened.setdefault(frames, []).append((clip, duration_s, encode_clips(backend, [audible], frames)))
    return tuple(
        HeldOutBatch(
            tuple(clip.clip_id for clip, _, _ in rows),
            torch.cat([latents for _, _, latents in rows]),
            backend.condition(
                [template_caption(clip.label, *clip.further_labels) for clip, _, _ in rows],
                [seconds for _, seconds, _ in rows],
            ),
        )
        for _, rows in sorted(opened.items(), key=lambda entry: entry[0])
    )


@torch.no_grad()
def held_out_error(backend: T2ABackend, held_out: HeldOut, draws: int, batch_size: int, seed: int) -> float:
    """Squared prediction error, mean over elements, clips and draws.

    Noise and levels depend only on seed, clip and draw; two models therefore differ only by their weights.

    Args:
        held_out: at least one clip.
        draws: noise levels per clip; the level of draw i of n lies in (i / n, (i + 1) / n).
        batch_size: rows per forward pass.
    """
    errors = []
    for batch in held_out:
        noise, levels = zip(*(_draw(batch, row, draws, seed) for row in range(len(batch.clip_ids))), strict=True)
        rows = torch.arange(len(batch.clip_ids)).repeat_interleave(draws)
        eps, t = torch.cat(noise), torch.cat(levels)
        for part in torch.arange(len(rows)).split(batch_size):
            condition = batch.condition[rows[part].to(batch.condition.cross.device)]
            z, noisy, level = (value.to(backend.device) for value in (batch.latents[rows[part]], eps[part], t[part]))
            errors.append(error(backend, z, noisy, level, condition).double().cpu())
    return float(torch.cat(errors).mean())


def _draw(batch: HeldOutBatch, row: int, draws: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(derive_seed(seed, "align_t2a", "held_out", batch.clip_ids[row]))
    eps = torch.randn((draws, *batch.latents.shape[1:]), generator=generator)
    t = (torch.arange(draws) + torch.rand(draws, generator=generator)) / draws
    return eps, t.clamp(1e-4, 1 - 1e-4)
