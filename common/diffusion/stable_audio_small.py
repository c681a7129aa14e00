"""Stable Audio Open Small (arXiv 2505.08175): rectified flow, duration as one number, few-step sampling.

Facts from Stability-AI/stable-audio-tools at 50049e3 (objective: stable_audio_tools/training/diffusion.py; noise levels
and ping-pong sampling: stable_audio_tools/inference/sampling.py) and, for the shapes, sandst1/stable-audio-mlx at
1faf0d5 (src/models/dit.py). The published checkpoint has the layout of stable-audio-tools and is not read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.transformers.stable_audio_transformer import StableAudioDiTModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioNumberConditioner
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from common.config.t2a import PretrainT2AConfig, SamplerConfig, TransformerConfig
from common.diffusion.backend import T2ABackend, masked_states
from common.diffusion.condition import Condition, Text
from common.diffusion.objective import FLOW
from common.diffusion.solver import Noise, first_step

_QK_NORM_EPS = 1e-6
_LOG_SNR = (-6.0, 2.0)


class StableAudioSmallDiT(StableAudioDiTModel):
    """Stable Audio's transformer with normalised queries and keys; defaults: the published shapes, 341 M parameters."""

    @register_to_config  # type: ignore[untyped-decorator]  # diffusers has no types
    def __init__(
        self,
        sample_size: int = 256,
        in_channels: int = 64,
        num_layers: int = 16,
        attention_head_dim: int = 128,
        num_attention_heads: int = 8,
        num_key_value_attention_heads: int = 8,
        out_channels: int = 64,
        cross_attention_dim: int = 1024,
        time_proj_dim: int = 256,
        global_states_input_dim: int = 768,
        cross_attention_input_dim: int = 768,
    ) -> None:
        super().__init__(
            sample_size=sample_size,
            in_channels=in_channels,
            num_layers=num_layers,
            attention_head_dim=attention_head_dim,
            num_attention_heads=num_attention_heads,
            num_key_value_attention_heads=num_key_value_attention_heads,
            out_channels=out_channels,
            cross_attention_dim=cross_attention_dim,
            time_proj_dim=time_proj_dim,
            global_states_input_dim=global_states_input_dim,
            cross_attention_input_dim=cross_attention_input_dim,
        )
        for block in self.transformer_blocks:
            for attention in (block.attn1, block.attn2):
                attention.norm_q = nn.LayerNorm(attention_head_dim, eps=_QK_NORM_EPS)
                attention.norm_k = nn.LayerNorm(attention_head_dim, eps=_QK_NORM_EPS)


class StableAudioSmallProjection(ModelMixin, ConfigMixin):
    """Projection of text states and seconds to the conditioning width.

    Args:
        min_value: smallest number of seconds.
        max_value: largest number of seconds.
    """

    @register_to_config  # type: ignore[untyped-decorator]  # diffusers has no types
    def __init__(
        self, text_encoder_dim: int, conditioning_dim: int = 768, min_value: float = 0, max_value: float = 256
    ) -> None:
        super().__init__()
        same = text_encoder_dim == conditioning_dim
        self.text_projection = nn.Identity() if same else nn.Linear(text_encoder_dim, conditioning_dim)
        self.seconds_total = StableAudioNumberConditioner(conditioning_dim, min_value, max_value)

    def forward(self, text_hidden_states: Tensor, seconds_total: Tensor) -> tuple[Tensor, Tensor]:
        """Project states `(B, S, E)` and seconds `(B,)` to `(B, S, C)` and `(B, 1, C)`."""
        return self.text_projection(text_hidden_states), self.seconds_total(seconds_total)


class StableAudioSmallPipeline(DiffusionPipeline):
    """The model's parts as a diffusers pipeline, saved in one folder."""

    def __init__(
        self, vae: Any, text_encoder: Any, projection_model: Any, tokenizer: Any, transformer: Any, scheduler: Any
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            projection_model=projection_model,
            tokenizer=tokenizer,
            transformer=transformer,
            scheduler=scheduler,
        )


class StableAudioSmall(T2ABackend):
    """A `StableAudioSmallPipeline`.

    Its scheduler determines the sampling: `FlowMatchLCMScheduler` predicts clean latents and noises them again in
    each step (ping-pong; for distilled models, 8 steps, guidance 1), `FlowMatchEulerDiscreteScheduler`
    follows the flow (for models trained here). Both take their noise levels from log SNR -6 to 2;
    the sampler settings `spacing` and `noise` apply to Stable Audio Open 1.0 only.
    """

    objective = FLOW
    pipeline_class = StableAudioSmallPipeline
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "text_encoder": ("T5EncoderModel",),
        "projection_model": ("StableAudioSmallProjection",),
        "transformer": ("StableAudioSmallDiT",),
        "scheduler": ("FlowMatchLCMScheduler", "FlowMatchEulerDiscreteScheduler"),
    }

    @classmethod
    def build_transformer(
        cls, shape: TransformerConfig, channels: int, frames: int, conditioning_dim: int
    ) -> StableAudioSmallDiT:
        """See `T2ABackend`."""
        return StableAudioSmallDiT(
            sample_size=frames,
            in_channels=channels,
            out_channels=channels,
            num_layers=shape.num_layers,
            attention_head_dim=shape.attention_head_dim,
            num_attention_heads=shape.num_attention_heads,
            num_key_value_attention_heads=shape.num_key_value_attention_heads,
            cross_attention_dim=shape.cross_attention_dim,
            cross_attention_input_dim=conditioning_dim,
            global_states_input_dim=conditioning_dim,
            time_proj_dim=shape.time_proj_dim,
        )

    @classmethod
    def build_projection(cls, text_dim: int, conditioning_dim: int, max_seconds: float) -> StableAudioSmallProjection:
        """See `T2ABackend`."""
        return StableAudioSmallProjection(text_dim, conditioning_dim, 0, max_seconds)

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


class FlowSolver:
    """Euler steps along the flow, or ping-pong steps with new noise.

    Args:
        times: noise levels, falling to 0.
        noise: draws for ping-pong steps; None = Euler steps.
        init_level: time to start at; None = pure noise.
    """

    def __init__(self, times: Tensor, noise: Noise | None, init_level: float | None) -> None:
        first = 0 if init_level is None else first_step(times[:-1], init_level)
        self.times, self._next, self._noise = times[first:-1], iter(times[first + 1 :]), noise

    def start(self, drawn: Tensor, init: Tensor | None) -> Tensor:
        """See `Solver`."""
        return drawn if init is None else (1 - self.times[0]) * init + self.times[0] * drawn

    def scale(self, latents: Tensor, t: Tensor) -> Tensor:
        """See `Solver`."""
        return latents

    def step(self, predicted: Tensor, t: Tensor, latents: Tensor) -> Tensor:
        """See `Solver`."""
        after = next(self._next)
        if self._noise is None:
            return latents + (after - t) * predicted
        clean = latents - t * predicted
        return (1 - after) * clean + after * self._noise.draw().to(latents.device)
