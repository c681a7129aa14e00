"""Clips as other recorders would have made them, on log-mel features: what differs between recorders decides nothing.

The front end of AST has an absolute floor and no level, unless its classifier was made with one. So the model learns
from clips whose level, noise floor, silence and band are random.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from transformers.audio_utils import hertz_to_mel

from common.classifier.features import LOWEST_HZ, LogMel
from common.classifier.front_end import FrontEnd
from common.config.classifier import RecordingConfig

CLEAN = RecordingConfig()
"""Clips as they are."""
DRAWS = 9
SHARE = 0.5
"""Share of the clips with each change but the gain, which all have."""
_SPAN_DB = 50.0
_SPAN_SILENCE_DB = 30.0


def vary_recording(features: Tensor, config: RecordingConfig, front_end: LogMel, draws: Tensor) -> Tensor:
    """Features of one clip under another recording condition.

    Args:
        features: (frames, bins) of the whole clip, before any padding.
        front_end: that computed the features; one that hears all clips at one level hears no gain.
        draws: (DRAWS,) uniform in [0, 1).

    Returns (frames, bins), with more frames where silence comes first; `features` is left unchanged.
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
        frames = int(config.lead_s * far[2] * front_end.sample_rate_hz / front_end.hop_length)
        features = torch.cat([features.new_full((frames, features.shape[1]), nothing), features])
    if config.band_hz and band < SHARE:
        first = _bins_below(front_end, config.band_hz + (front_end.sample_rate_hz / 2 - config.band_hz) * far[3])
        features = torch.cat([features[:, :first], torch.full_like(features[:, first:], nothing)], dim=1)
    return features


def draw_conditions(
    config: RecordingConfig, count: int, front_end: FrontEnd, generator: torch.Generator
) -> list[Callable[[Tensor], Tensor]]:
    """Draw the recording conditions of `count` clips; nothing is drawn where none vary.

    Args:
        front_end: a `LogMel` where any varies.

    Returns for each clip the change of its features; see `vary_recording`.
    """
    if not config.on or not isinstance(front_end, LogMel):
        return [lambda features: features] * count
    draws = torch.rand(count, DRAWS, generator=generator)
    return [partial(vary_recording, config=config, front_end=front_end, draws=row) for row in draws]


def _bins_below(front_end: LogMel, frequency_hz: float) -> int:
    """Number of mel bins whose centre lies below a frequency."""
    low, high, limit = (hertz_to_mel(hz, "kaldi") for hz in (LOWEST_HZ, front_end.sample_rate_hz / 2, frequency_hz))
    return max(0, round(float((limit - low) / (high - low)) * (front_end.num_mel_bins + 1) - 0.5))
