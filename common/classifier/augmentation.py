"""SpecAugment on log-mel features: masks, and a roll in time."""

from __future__ import annotations

import torch
from torch import Tensor

from common.classifier.features import HOP_LENGTH
from common.config.classifier import SpecAugmentConfig


def spec_augment(
    features: Tensor, config: SpecAugmentConfig, strength: float, sample_rate_hz: int, generator: torch.Generator
) -> Tensor:
    """Roll each example in time, then mask bands of mel bins and of frames.

    A mask's width is uniform in [0, strength × axis] and its position uniform; masked values become 0,
    the mean of the corpus that normalised the features. The roll is circular over the window and
    replaces SpecAugment's time warp, the part with the smallest gain (arXiv 1904.08779).

    Args:
        features: (B, frames, bins), normalised.
        strength: largest share of an axis under one mask, in [0, 1].
        generator: source of the draws; their number depends on B and the number of masks only.

    Returns (B, frames, bins); `features` is left unchanged.
    """
    count, frames, bins = features.shape
    draws = torch.rand(count, 1 + 4 * config.masks, generator=generator)
    largest_roll = config.time_roll_s * sample_rate_hz / HOP_LENGTH
    shift = ((2 * draws[:, 0] - 1) * largest_roll).round().long()
    source = (torch.arange(frames)[None] - shift[:, None]) % frames
    rolled = features.gather(1, source[:, :, None].expand(-1, -1, bins).to(features.device))
    time_draws, mel_draws = draws[:, 1:].split(2 * config.masks, dim=1)
    hidden_frames = _masked(time_draws, frames, strength).to(features.device)
    hidden_bins = _masked(mel_draws, bins, strength).to(features.device)
    return rolled.masked_fill(hidden_frames[:, :, None] | hidden_bins[:, None, :], 0.0)


def _masked(draws: Tensor, length: int, strength: float) -> Tensor:
    """Convert (B, 2 masks) uniform draws, widths then positions, to a (B, length) mask."""
    width_draws, place_draws = draws.chunk(2, dim=1)
    widths = (width_draws * (strength * length + 1)).floor().clamp_max(length)
    starts = (place_draws * (length - widths + 1)).floor()
    positions = torch.arange(length)[None, None]
    inside = (positions >= starts[:, :, None]) & (positions < (starts + widths)[:, :, None])
    return inside.any(dim=1)
