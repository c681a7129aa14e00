"""The learning rate over the steps."""

from __future__ import annotations

import math

from common.config.base import OptimConfig


def learning_rate_factor(config: OptimConfig, step: int) -> float:
    """Multiplier of the learning rate at `step` (from 0): linear warm-up, then the schedule.

    `inverse` is InverseLR of stable-audio-tools: (1 + step / inverse_gamma) ** -0.5. `step` is PyTorch's
    MultiStepLR with milestones step_from, step_from + step_every, …
    """
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "cosine":
        span = max(1, config.steps - config.warmup_steps)
        progress = min(1.0, max(0, step - config.warmup_steps) / span)
        return warmup * 0.5 * (1.0 + math.cos(math.pi * progress))
    if config.schedule == "inverse":
        return warmup * (1.0 + step / config.inverse_gamma) ** -0.5
    if config.schedule == "step" and step >= config.step_from:
        return warmup * config.step_factor ** (1 + (step - config.step_from) // config.step_every)
    return warmup
