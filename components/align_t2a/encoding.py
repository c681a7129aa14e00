"""Latents and conditions of all pairs, computed once; training needs neither codec nor text encoder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.diffusion.backend import T2ABackend
from common.diffusion.text import Condition
from common.errors import DataError
from common.records.text import template_caption
from components.align_t2a.distance import clip_spectrum
from components.align_t2a.pairs import LoadedGroup, equalize, fit_length


@dataclass(frozen=True)
class Bucket:
    """Pairs of one latent length L.

    Attributes:
        winners: latents of gold clips (G, D, L).
        losers: latents of generated clips (N, D, L).
        winner_of: (N,) row of `winners` for each loser.
        caption_of: (N,) row of `condition` for each pair.
        condition: one row per distinct caption and duration.
    """

    winners: Tensor
    losers: Tensor
    winner_of: Tensor
    caption_of: Tensor
    condition: Condition
    null: Condition


@dataclass(frozen=True)
class EncodedPairs:
    """Training data of an alignment: encoded gold clips and losers.

    Attributes:
        spectra: mean spectra (BANDS,) of the gold clips, by label.
        silent_losers: number of those left out.
        silent_winners: ids of gold clips left out, with their losers.
    """

    buckets: tuple[Bucket, ...]
    spectra: dict[str, list[NDArray[np.float64]]]
    silent_losers: int
    silent_winners: tuple[str, ...]

    @property
    def pairs(self) -> int:
        """Number of pairs."""
        return sum(len(bucket.losers) for bucket in self.buckets)


@dataclass
class _Open:
    winners: list[Tensor] = field(default_factory=list)
    losers: list[Tensor] = field(default_factory=list)
    winner_of: list[int] = field(default_factory=list)
    captions: list[tuple[str, float]] = field(default_factory=list)


@torch.no_grad()
def encode_pairs(
    backend: T2ABackend, clips: Iterable[LoadedGroup], bucket_width: int, peak_limit_dbfs: float
) -> EncodedPairs:
    """Equalise winners and losers, and encode them.

    Both are cut to the winner's length (its loudest window if it is longer than the model's), scaled
    to one level, padded with silence to the bucket's length, and encoded in one call.

    Args:
        clips: groups with the audio (T,) of winner and losers, at the model's rate.
        bucket_width: latent lengths are rounded up to a multiple of this many frames.

    Raises DataError: no pair of audible clips is left.
    """
    window = backend.max_frames * backend.hop_length
    opened: dict[int, _Open] = {}
    spectra: dict[str, list[NDArray[np.float64]]] = {}
    silent, silent_winners = 0, []
    for group, winner_audio, loser_audio in clips:
        length = min(len(winner_audio), window)
        cut = [fit_length(audio, length) for audio in (winner_audio, *loser_audio)]
        winner, losers = equalize(cut[0], cut[1:], peak_limit_dbfs)
        if winner is None:
            silent_winners.append(group.winner.clip_id)
            continue
        label = group.winner.label
        spectra.setdefault(label, []).append(clip_spectrum(winner, backend.sample_rate_hz))
        audible = [audio for audio in losers if audio is not None]
        silent += len(losers) - len(audible)
        duration_s = length / backend.sample_rate_hz
        frames = backend.frames(duration_s, bucket_width)
        latents = encode_clips(backend, [winner, *audible], frames)
        bucket = opened.setdefault(frames, _Open())
        bucket.winner_of += [len(bucket.winners)] * len(audible)
        bucket.captions += [(template_caption(label, *group.winner.further_labels), duration_s)] * len(audible)
        bucket.winners.append(latents[:1])
        bucket.losers.append(latents[1:])
    if not any(bucket.captions for bucket in opened.values()):
        raise DataError(
            f"no pairs to align with: {silent} generated and {len(silent_winners)} gold clips are silent; "
            "pretrain the model for longer, or look at the dataset"
        )
    closed = [_close(backend, bucket) for _, bucket in sorted(opened.items()) if bucket.captions]
    return EncodedPairs(tuple(closed), spectra, silent, tuple(silent_winners))


def encode_clips(backend: T2ABackend, clips: list[np.ndarray], frames: int) -> Tensor:
    """Latents (N, D, `frames`) of clips (T,), on the CPU; clips are padded with silence to that length."""
    length = frames * backend.hop_length
    audio = torch.from_numpy(np.stack([fit_length(clip, length) for clip in clips]))
    return backend.encode(audio[:, None]).cpu()


def _close(backend: T2ABackend, bucket: _Open) -> Bucket:
    distinct = sorted(set(bucket.captions))
    condition = backend.condition([caption for caption, _ in distinct], [duration_s for _, duration_s in distinct])
    return Bucket(
        winners=torch.cat(bucket.winners),
        losers=torch.cat(bucket.losers),
        winner_of=torch.tensor(bucket.winner_of),
        caption_of=torch.tensor([distinct.index(pair) for pair in bucket.captions]),
        condition=condition,
        null=backend.null(condition),
    )
