"""Stable Audio Open 1.0 (arXiv 2407.14358): v-objective, seconds of start and end, DPM-Solver++."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from diffusers.models.transformers.stable_audio_transformer import StableAudioDiTModel
from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel
from diffusers.pipelines.stable_audio.pipeline_stable_audio import StableAudioPipeline
from diffusers.schedulers.scheduling_cosine_dpmsolver_multistep import CosineDPMSolverMultistepScheduler
from torch import Tensor

from common.config.t2a import PretrainT2AConfig, SamplerConfig, TransformerConfig
from common.diffusion.backend import T2ABackend, masked_states
from common.diffusion.objective import Noise, Solver, V, first_step
from common.diffusion.preconditioned import PreconditionedDiT
from common.diffusion.text import Condition, Text


class StableAudio(T2ABackend):
    """A `StableAudioPipeline` (autoencoder, T5, projection, DiT, Cosine scheduler)."""

    objective = V
    seconds = 2
    pipeline_class = StableAudioPipeline
    projection_class = StableAudioProjectionModel
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "text_encoder": ("T5EncoderModel",),
        "projection_model": ("StableAudioProjectionModel",),
        "transformer": ("StableAudioDiTModel", "PreconditionedDiT"),
        # Others of diffusers call the network with a timestep that is not the `t` of training.
        "scheduler": ("CosineDPMSolverMultistepScheduler",),
    }

    @classmethod
    def transformer_class(cls, shape: TransformerConfig) -> Any:
        """See `T2ABackend`."""
        return PreconditionedDiT if shape.precondition else StableAudioDiTModel

    @classmethod
    def build_scheduler(cls, config: PretrainT2AConfig) -> CosineDPMSolverMultistepScheduler:
        """See `T2ABackend`."""
        return CosineDPMSolverMultistepScheduler(sigma_min=config.sigma_min, sigma_max=config.sigma_max)

    def solver(self, sampler: SamplerConfig, noise: Noise, init_level: float | None = None) -> CosineSolver:
        """See `T2ABackend`."""
        return CosineSolver(self.scheduler.config, sampler, noise, init_level, self.device)

    def _condition(self, text: Text, durations_s: Tensor) -> Condition:
        end = durations_s.to(self.device)
        parts = self.projection(text_hidden_states=text.hidden, start_seconds=torch.zeros_like(end), end_seconds=end)
        states = masked_states(parts.text_hidden_states, text.mask)
        start, end = parts.seconds_start_hidden_states, parts.seconds_end_hidden_states
        return Condition(torch.cat([states, start, end], dim=1), torch.cat([start, end], dim=2))


class CosineSolver(Solver):
    """DPM-Solver++ (SDE, second order) by diffusers' Cosine scheduler, from `init_level` or from pure noise."""

    def __init__(
        self, config: Any, sampler: SamplerConfig, noise: Noise, init_level: float | None, device: torch.device
    ) -> None:
        scheduler = CosineDPMSolverMultistepScheduler.from_config(config, sigma_schedule=sampler.spacing)
        scheduler.set_timesteps(sampler.steps, device=device)
        if sampler.noise == "independent":
            scheduler.noise_sampler = noise
        self._first = 0
        if init_level is not None:
            self._first = first_step(scheduler.timesteps, init_level)
            scheduler.set_begin_index(self._first)
        self._scheduler, self._noise = scheduler, noise
        self.times: Tensor = scheduler.timesteps[self._first :]

    def start(self, drawn: Tensor, init: Tensor | None) -> Tensor:
        """See `Solver`."""
        if init is None:
            return drawn * self._scheduler.init_noise_sigma
        return init + drawn * self._scheduler.sigmas[self._first]

    def scale(self, latents: Tensor, t: Tensor) -> Tensor:
        """See `Solver`."""
        return self._scheduler.scale_model_input(latents, t)

    def step(self, predicted: Tensor, t: Tensor, latents: Tensor) -> Tensor:
        """See `Solver`."""
        with warnings.catch_warnings():
            # The Brownian tree warns about steps that rounding moves outside its interval by one ulp.
            warnings.filterwarnings("ignore", message="Should have t")
            return self._scheduler.step(predicted, t, latents, generator=self._noise.seeded).prev_sample


BACKEND = StableAudio
