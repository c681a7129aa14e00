"""Latents and conditions of all pairs, computed once; training needs neither codec nor text encoder."""

from collections.abc import Iterable
from dataclasses import dataclass

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


_Encoded = tuple[Tensor, tuple[str, float]]
"""Latents of a winner and its losers, with its caption and duration."""


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
    opened: dict[int, list[_Encoded]] = {}
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
        caption = template_caption(label, *group.winner.further_labels)
        opened.setdefault(frames, []).append((latents, (caption, duration_s)))
    paired = [rows for _, rows in sorted(opened.items()) if any(len(latents) > 1 for latents, _ in rows)]
    if not paired:
        raise DataError(
            f"no pairs to align with: {silent} generated and {len(silent_winners)} gold clips are silent; "
            "pretrain the model for longer, or look at the dataset"
        )
    buckets = tuple(_bucket(backend, rows) for rows in paired)
    return EncodedPairs(buckets, spectra, silent, tuple(silent_winners))


def encode_clips(backend: T2ABackend, clips: list[np.ndarray], frames: int) -> Tensor:
    """Latents (N, D, `frames`) of clips (T,), on the CPU; clips are padded with silence to that length."""
    length = frames * backend.hop_length
    audio = torch.from_numpy(np.stack([fit_length(clip, length) for clip in clips]))
    return backend.encode(audio[:, None]).cpu()


def _bucket(backend: T2ABackend, rows: list[_Encoded]) -> Bucket:
    places, captions = zip(*((row, told) for row, (latents, told) in enumerate(rows) for _ in latents[1:]), strict=True)
    distinct = sorted(set(captions))
    condition = backend.condition([caption for caption, _ in distinct], [duration_s for _, duration_s in distinct])
    return Bucket(
        winners=torch.cat([latents[:1] for latents, _ in rows]),
        losers=torch.cat([latents[1:] for latents, _ in rows]),
        winner_of=torch.tensor(places),
        caption_of=torch.tensor([distinct.index(told) for told in captions]),
        condition=condition,
        null=backend.null(condition),
    )
