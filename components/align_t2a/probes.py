"""A small fixed batch of generations that shows where a model stands against the gold set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from common.config.t2a import AlignT2AConfig
from common.diffusion.backend import StableAudio
from common.diffusion.buckets import bucket_frames
from common.diffusion.sampling import sample
from common.records import GoldClip
from common.seeding import derive_seed
from common.text import template_caption
from components.align_t2a.distance import Spectrum, clip_spectrum, latent_frechet, spectrum_distance
from components.align_t2a.encoding import EncodedPairs


def choose_probes(gold: Sequence[GoldClip], per_class: int, limit: int) -> list[GoldClip]:
    """Gold clips whose label and duration are generated: up to `per_class` of each label, `limit` in all.

    Where the limit bites, every label loses its last ones first.
    """
    rank: dict[str, int] = {}
    ranked = []
    for clip in sorted(gold, key=lambda clip: clip.clip_id):
        ranked.append((rank.setdefault(clip.label, 0), clip.label, clip))
        rank[clip.label] += 1
    ranked.sort(key=lambda entry: entry[:2])
    return [clip for place, _, clip in ranked if place < per_class][:limit]


def measure(
    backend: StableAudio, probes: Sequence[GoldClip], gold: EncodedPairs, settings: AlignT2AConfig, seed: int
) -> tuple[dict[str, float], Spectrum]:
    """Distances of the model's generations to the gold set; smaller is nearer.

    The same probes and seed give the same noise, so two models differ by their weights only.

    Returns:
        `spectrum_db` and `latent_frechet` (see `distance`), and the mean spectrum of the generations.
    """
    by_length: dict[int, list[GoldClip]] = {}
    for clip in probes:
        by_length.setdefault(bucket_frames(backend, clip.duration_s, settings.sampler.bucket_frames), []).append(clip)
    spectra: dict[str, list[Spectrum]] = {}
    latents = []
    for frames, clips in sorted(by_length.items()):
        durations = [min(clip.duration_s, backend.window_s) for clip in clips]
        seeds = [derive_seed(seed, "align_t2a", "probe", clip.clip_id) for clip in clips]
        made = sample(
            backend,
            [template_caption(clip.label) for clip in clips],
            durations,
            [torch.Generator().manual_seed(value) for value in seeds],
            settings.sampler,
            frames=frames,
        )
        latents += [latent.numpy() for latent in made]
        audio = backend.decode(made).mean(1).cpu().numpy()
        for clip, samples, duration_s in zip(clips, audio, durations, strict=True):
            cut = samples[: round(duration_s * backend.sample_rate_hz)]
            spectra.setdefault(clip.label, []).append(clip_spectrum(cut, backend.sample_rate_hz))
    winners = [latent.numpy() for bucket in gold.buckets for latent in bucket.winners]
    figures = {
        "spectrum_db": spectrum_distance(spectra, gold.spectra),
        "latent_frechet": latent_frechet(latents, winners),
    }
    return figures, np.mean([spectrum for label in spectra.values() for spectrum in label], axis=0)
