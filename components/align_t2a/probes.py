"""Measurement of a model during alignment: a fixed batch of generations, what a learner gains, the held-out error."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch

from common.config.t2a import AlignT2AConfig
from common.diffusion.backend import T2ABackend
from common.diffusion.sampling import sample
from common.records.clips import GoldClip
from common.records.text import template_caption
from common.runtime.devices import autocast
from common.runtime.seeding import derive_seed
from components.align_t2a.distance import Spectrum, clip_spectrum, latent_frechet, spectrum_distance
from components.align_t2a.encoding import EncodedPairs
from components.align_t2a.held_out import HeldOut, held_out_error
from components.align_t2a.learner import HeldOutLearner
from components.align_t2a.selection import DISTANCE, ERROR, LEARNER


def choose_probes(gold: Sequence[GoldClip], per_class: int, limit: int | None = None) -> list[GoldClip]:
    """Fixed selection of gold clips to measure with: up to `per_class` of each label, `limit` in all (None = any).

    If the limit is reached, every label loses its last clips first.
    """
    rank: dict[str, int] = {}
    ranked = []
    for clip in sorted(gold, key=lambda clip: clip.clip_id):
        ranked.append((rank.setdefault(clip.label, 0), clip.label, clip))
        rank[clip.label] += 1
    ranked.sort(key=lambda entry: entry[:2])
    return [clip for place, _, clip in ranked if place < per_class][:limit]


@dataclass(frozen=True)
class Probes:
    """Measurement of a model under fixed noise; two models therefore differ only by their weights.

    Attributes:
        clips: gold clips whose label and duration are generated.
        gold: reference that the generations are compared with.
        held_out: validation clips; may be empty.
        learner: given the generations as further clips; None = no learner.
    """

    clips: Sequence[GoldClip]
    gold: EncodedPairs
    held_out: HeldOut
    settings: AlignT2AConfig
    seed: int
    learner: HeldOutLearner | None = None

    def measure(self, backend: T2ABackend) -> tuple[dict[str, float], Spectrum]:
        """Figures of the current model; smaller is better.

        Returns `held_out_error` (if there are validation clips), `spectrum_db` and `latent_frechet` (see `distance`),
        `learner_loss` (with a learner); and the mean spectrum of the generations.
        """
        backend.transformer.eval()
        figures = {}
        if self.held_out:
            draws, batch_size = self.settings.held_out_draws, self.settings.optim.batch_size
            with self._precision(backend):
                figures[ERROR] = held_out_error(backend, self.held_out, draws, batch_size, self.seed)
        distances, spectrum = self._distances(backend)
        return figures | distances, spectrum

    def _distances(self, backend: T2ABackend) -> tuple[dict[str, float], Spectrum]:
        by_length: dict[int, list[GoldClip]] = {}
        for clip in self.clips:
            frames = backend.frames(clip.duration_s, self.settings.sampler.bucket_frames)
            by_length.setdefault(frames, []).append(clip)
        spectra: dict[str, list[Spectrum]] = {}
        latents: list[np.ndarray] = []
        heard: list[tuple[GoldClip, np.ndarray]] = []
        for frames, clips in sorted(by_length.items()):
            durations = [min(clip.duration_s, backend.window_s) for clip in clips]
            seeds = [derive_seed(self.seed, "align_t2a", "probe", clip.clip_id) for clip in clips]
            with self._precision(backend):
                made = sample(
                    backend,
                    [template_caption(clip.label, *clip.further_labels) for clip in clips],
                    durations,
                    [torch.Generator().manual_seed(value) for value in seeds],
                    self.settings.sampler,
                    frames=frames,
                )
            latents += [latent.numpy() for latent in made]
            audio = backend.decode(made).mean(1).cpu().numpy()
            for clip, samples, duration_s in zip(clips, audio, durations, strict=True):
                cut = samples[: round(duration_s * backend.sample_rate_hz)]
                spectra.setdefault(clip.label, []).append(clip_spectrum(cut, backend.sample_rate_hz))
                heard.append((clip, cut))
        winners = [latent.numpy() for bucket in self.gold.buckets for latent in bucket.winners]
        figures = {
            DISTANCE: spectrum_distance(spectra, self.gold.spectra),
            "latent_frechet": latent_frechet(latents, winners),
        }
        if self.learner is not None:
            figures[LEARNER] = self.learner.loss(heard, backend.sample_rate_hz)
        return figures, np.mean([spectrum for label in spectra.values() for spectrum in label], axis=0)

    def _precision(self, backend: T2ABackend) -> AbstractContextManager[None]:
        return autocast(backend.device, self.settings.optim.precision)
