"""Stable Audio Open Small (arXiv 2505.08175): rectified flow, duration as one number, few-step sampling.

Facts from Stability-AI/stable-audio-tools at 50049e3 (objective: stable_audio_tools/training/diffusion.py; noise levels
and ping-pong sampling: stable_audio_tools/inference/sampling.py). The published checkpoint has the layout of
stable-audio-tools and is not read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from common.config.t2a import PretrainT2AConfig, SamplerConfig, TransformerConfig
from common.diffusion.backend import T2ABackend, masked_states
from common.diffusion.objective import FLOW, Noise, Solver, first_step
from common.diffusion.stable_audio_small import (
    StableAudioSmallDiT,
    StableAudioSmallPipeline,
    StableAudioSmallProjection,
)
from common.diffusion.text import Condition, Text

_LOG_SNR = (-6.0, 2.0)


class StableAudioSmall(T2ABackend):
    """A `StableAudioSmallPipeline`.

    Its scheduler determines the sampling: `FlowMatchLCMScheduler` predicts clean latents and noises them again in
    each step (ping-pong; for distilled models, 8 steps, guidance 1), `FlowMatchEulerDiscreteScheduler`
    follows the flow (for models trained here). Both take their noise levels from log SNR -6 to 2;
    the sampler settings `spacing` and `noise` apply to Stable Audio Open 1.0 only.
    """

    objective = FLOW
    seconds = 1
    pipeline_class = StableAudioSmallPipeline
    projection_class = StableAudioSmallProjection
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "text_encoder": ("T5EncoderModel",),
        "projection_model": ("StableAudioSmallProjection",),
        "transformer": ("StableAudioSmallDiT",),
        "scheduler": ("FlowMatchLCMScheduler", "FlowMatchEulerDiscreteScheduler"),
    }

    @classmethod
    def transformer_class(cls, shape: TransformerConfig) -> Any:
        """See `T2ABackend`."""
        return StableAudioSmallDiT

    @classmethod
    def build_scheduler(cls, config: PretrainT2AConfig) -> FlowMatchEulerDiscreteScheduler:
        """See `T2ABackend`."""
        return FlowMatchEulerDiscreteScheduler()

    def solver(self, sampler: SamplerConfig, noise: Noise, init_level: float | None = None) -> FlowSolver:
        """See `T2ABackend`."""
        renewing = type(self.scheduler).__name__ == "FlowMatchLCMScheduler"
        return FlowSolver(flow_times(sampler.steps).to(self.device), noise if renewing else None, init_level)

    def _condition(self, text: Text, durations_s: Tensor) -> Condition:
        states, seconds = self.projection(text.hidden, durations_s.to(self.device))
        return Condition(torch.cat([masked_states(states, text.mask), seconds], dim=1), seconds)


def flow_times(steps: int) -> Tensor:
    """Noise levels `(steps + 1,)` from 1 to 0, evenly spaced in log SNR in between."""
    times = (-torch.linspace(*_LOG_SNR, steps + 1)).sigmoid()
    times[0], times[-1] = 1.0, 0.0
    return times


class FlowSolver(Solver):
    """Euler steps along the flow, or with `noise` ping-pong steps, from `init_level` or from pure noise."""

    def __init__(self, times: Tensor, noise: Noise | None, init_level: float | None) -> None:
        first = 0 if init_level is None else first_step(times[:-1], init_level)
        self.times, self._next, self._noise = times[first:-1], iter(times[first + 1 :]), noise

    def start(self, drawn: Tensor, init: Tensor | None) -> Tensor:
        """See `Solver`."""
        return drawn if init is None else (1 - self.times[0]) * init + self.times[0] * drawn

    def step(self, predicted: Tensor, t: Tensor, latents: Tensor) -> Tensor:
        """See `Solver`."""
        after = next(self._next)
        if self._noise is None:
            return latents + (after - t) * predicted
        clean = latents - t * predicted
        return (1 - after) * clean + after * self._noise.draw().to(latents.device)


BACKEND = StableAudioSmall
