"""Sampling of latents: DPM-Solver++ (SDE, second order) with classifier-free guidance.

The same result as `StableAudioPipeline`, but on latents of the clip's own length instead of the
model's whole window, and with every clip independent of the others in its batch.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from diffusers.schedulers.scheduling_cosine_dpmsolver_multistep import CosineDPMSolverMultistepScheduler
from torch import Tensor

from common.config.t2a import SamplerConfig
from common.diffusion.backend import Condition, StableAudio, join
from common.errors import ConfigError


@torch.no_grad()
def sample(
    backend: StableAudio,
    captions: Sequence[str],
    duration_s: float | Sequence[float],
    generators: Sequence[torch.Generator],
    sampler: SamplerConfig,
    init_latents: Tensor | None = None,
    init_level: float | None = None,
    frames: int | None = None,
) -> Tensor:
    """Sample one clip per caption.

    A clip depends on its caption, duration, generator and the batch size, not on its neighbours: batches are always
    full (the last one is filled up), so it is bit-equal on one machine; other batch sizes agree within 1e-4.

    Args:
        backend: the model.
        captions: N captions.
        duration_s: of all clips, or of each.
        generators: N CPU generators; their seeds also drive the solver's noise.
        sampler: steps, guidance, batch size.
        init_latents: `(N, D, L)` to start from instead of pure noise (SDEdit, arXiv 2108.01073).
        init_level: with `init_latents`: the time in (0, 1] to which they are noised; 1 forgets them.
        frames: L; default: as many as the longest duration needs.

    Returns:
        `(N, D, L)` float32 latents.

    Raises:
        ConfigError: the lengths do not match, or only one of `init_latents` and `init_level` is given.
    """
    count = len(captions)
    durations = [float(duration_s)] * count if isinstance(duration_s, int | float) else [float(d) for d in duration_s]
    if not len(durations) == len(generators) == count:
        raise ConfigError(f"{count} captions, {len(durations)} durations, {len(generators)} generators: must match")
    if (init_latents is None) != (init_level is None):
        raise ConfigError("init_latents and init_level go together: give both or none")
    if not count:
        return torch.empty(0, backend.latent_channels, frames or 1)
    length = frames or backend.frames(max(durations))
    batches = []
    for start in range(0, count, sampler.batch_size):
        rows = [min(start + i, count - 1) for i in range(sampler.batch_size)]
        condition = backend.condition([captions[i] for i in rows], [durations[i] for i in rows])
        noise, seeds = _noise(backend, [generators[i] for i in range(start, rows[-1] + 1)], length, sampler.batch_size)
        init = None if init_latents is None else init_latents[rows]
        batches.append(_denoise(backend, condition, noise, seeds, sampler, init, init_level))
    return torch.cat(batches)[:count]


def _noise(
    backend: StableAudio, generators: Sequence[torch.Generator], length: int, batch_size: int
) -> tuple[Tensor, list[torch.Generator]]:
    # The seed as it stands, and the draw of the start, are what the stock pipeline takes from a generator.
    rows = [torch.randn(backend.latent_channels, length, generator=g) for g in generators]
    missing = batch_size - len(rows)
    return torch.stack(rows + rows[-1:] * missing), [*generators, *[generators[-1]] * missing]


def _denoise(
    backend: StableAudio,
    condition: Condition,
    noise: Tensor,
    generators: list[torch.Generator],
    sampler: SamplerConfig,
    init: Tensor | None,
    init_level: float | None,
) -> Tensor:
    # Schedulers hold state: each batch gets its own.
    scheduler = CosineDPMSolverMultistepScheduler.from_config(backend.scheduler.config)
    scheduler.set_timesteps(sampler.steps, device=backend.device)
    first = 0
    latents = noise.to(backend.device) * scheduler.init_noise_sigma
    if init is not None and init_level is not None:
        first = _first_step(scheduler.timesteps, init_level)
        scheduler.set_begin_index(first)
        latents = init.to(backend.device) + noise.to(backend.device) * scheduler.sigmas[first]
    guided = sampler.guidance_scale > 1
    both = join([backend.null(condition), condition]) if guided else condition
    dtype = next(backend.transformer.parameters()).dtype
    with warnings.catch_warnings():
        # The Brownian tree warns of steps that rounding puts outside its interval by one ulp.
        warnings.filterwarnings("ignore", message="Should have t")
        for t in scheduler.timesteps[first:]:
            scaled = scheduler.scale_model_input(latents, t)
            inputs = torch.cat([scaled, scaled]) if guided else scaled
            v = backend.predict(inputs.to(dtype), t.expand(len(inputs)), both).float()
            if guided:
                unconditional, conditional = v.chunk(2)
                v = unconditional + sampler.guidance_scale * (conditional - unconditional)
            latents = scheduler.step(v, t, latents, generator=generators).prev_sample
    return latents.float().cpu()


def _first_step(timesteps: Tensor, level: float) -> int:
    if not 0 < level <= 1:
        raise ConfigError(f"init_level is {level}, expected a time in (0, 1]: 1 starts from pure noise")
    below = [i for i, t in enumerate(timesteps.tolist()) if t <= level or math.isclose(t, level)]
    return below[0] if below else len(timesteps) - 1
