"""Augmentation of log-mel features: SpecAugment, and clips as other recorders would have made them.

The front end of AST has an absolute floor and no level, unless its classifier was made with one. So the model learns
from clips whose level, noise floor, silence and band are random: what differs between recorders decides nothing.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from transformers.audio_utils import hertz_to_mel

from common.classifier.features import LOWEST_HZ, FrontEnd, LogMel
from common.config.classifier import RecordingConfig, SpecAugmentConfig

CLEAN = RecordingConfig()
"""Clips as they are."""
DRAWS = 9
SHARE = 0.5
"""Share of the clips with each change but the gain, which all have."""
_SPAN_DB = 50.0
_SPAN_SILENCE_DB = 30.0


def spec_augment(
    features: Tensor,
    config: SpecAugmentConfig,
    strength: float,
    frames_per_s: float,
    generator: torch.Generator,
    mean: float = 0.0,
) -> Tensor:
    """Roll each example in time, then mask bands of mel bins and of frames.

    A mask's width is uniform in [0, strength × axis] and its position uniform; masked values become the mean. The roll
    is circular over the window and replaces SpecAugment's time warp, the part with the smallest gain (arXiv
    1904.08779).

    Args:
        features: (B, frames, bins); left unchanged.
        strength: largest share of an axis under one mask, in [0, 1].
        generator: the number of draws depends on B and the number of masks only.
        mean: of the features; 0 where a corpus normalised them.
    """
    count, frames, bins = features.shape
    draws = torch.rand(count, 1 + 4 * config.masks, generator=generator)
    shift = ((2 * draws[:, 0] - 1) * config.time_roll_s * frames_per_s).round().long()
    source = (torch.arange(frames)[None] - shift[:, None]) % frames
    rolled = features.gather(1, source[:, :, None].expand(-1, -1, bins).to(features.device))
    time_draws, mel_draws = draws[:, 1:].split(2 * config.masks, dim=1)
    hidden_frames = _masked(time_draws, frames, strength).to(features.device)
    hidden_bins = _masked(mel_draws, bins, strength).to(features.device)
    return rolled.masked_fill(hidden_frames[:, :, None] | hidden_bins[:, None, :], mean)


def _masked(draws: Tensor, length: int, strength: float) -> Tensor:
    """Convert (B, 2 masks) uniform draws, widths then positions, to a (B, length) mask."""
    width_draws, place_draws = draws.chunk(2, dim=1)
    widths = (width_draws * (strength * length + 1)).floor().clamp_max(length)
    starts = (place_draws * (length - widths + 1)).floor()
    positions = torch.arange(length)[None, None]
    inside = (positions >= starts[:, :, None]) & (positions < (starts + widths)[:, :, None])
    return inside.any(dim=1)


def vary_recording(features: Tensor, config: RecordingConfig, front_end: LogMel, draws: Tensor) -> Tensor:
    """Features of one clip under another recording condition.

    Args:
        features: (frames, bins) of the whole clip, before any padding; left unchanged.
        front_end: that computed the features; one that hears all clips at one level hears no gain.
        draws: (DRAWS,) uniform in [0, 1).
    """
    floor, silence, lead, band, gain, *far = draws.tolist()
    decibel, nothing = front_end.decibel, front_end.silence
    if config.floor_db and floor < SHARE:
        features = features.clamp_min(float(features.max()) - decibel * (config.floor_db + _SPAN_DB * far[0]))
    if config.gain_db and front_end.peak is None:
        features = (features - decibel * config.gain_db * gain).clamp_min(nothing)
    if config.silence_db and silence < SHARE:
        loudness = features.amax(dim=1)
        quiet = loudness < loudness.max() - decibel * (config.silence_db + _SPAN_SILENCE_DB * far[1])
        features = features.masked_fill(quiet[:, None], nothing)
    if config.lead_s and lead < SHARE:
        frames = int(config.lead_s * far[2] * front_end.frames_per_s)
        features = torch.cat([features.new_full((frames, features.shape[1]), nothing), features])
    if config.band_hz and band < SHARE:
        first = _bins_below(front_end, config.band_hz + (front_end.sample_rate_hz / 2 - config.band_hz) * far[3])
        features = torch.cat([features[:, :first], torch.full_like(features[:, first:], nothing)], dim=1)
    return features


def draw_conditions(
    config: RecordingConfig, count: int, front_end: FrontEnd, generator: torch.Generator
) -> list[Callable[[Tensor], Tensor]]:
    """Draw the recording conditions of `count` clips, changes of their features; nothing is drawn where none vary."""
    if not config.on or not isinstance(front_end, LogMel):
        return [lambda features: features] * count
    draws = torch.rand(count, DRAWS, generator=generator)
    return [partial(vary_recording, config=config, front_end=front_end, draws=row) for row in draws]


def _bins_below(front_end: LogMel, frequency_hz: float) -> int:
    """Number of mel bins whose centre lies below a frequency."""
    low, high, limit = (hertz_to_mel(hz, "kaldi") for hz in (LOWEST_HZ, front_end.sample_rate_hz / 2, frequency_hz))
    return max(0, round(float((limit - low) / (high - low)) * (front_end.num_mel_bins + 1) - 0.5))
