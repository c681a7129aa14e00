"""Measurement of a model during alignment: a fixed batch of generations, what a learner gains, the held-out error.

Training never sees the validation clips. The error of the prediction on them tells learning the small dataset's sound
from memorising its clips.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.audio.signal import resample
from common.classifier.inference import probabilities
from common.config.t2a import AlignT2AConfig
from common.diffusion.backend import T2ABackend, error
from common.diffusion.sampling import sample_each
from common.diffusion.text import Condition
from common.learners.calibration import cross_entropy, fit_temperature, tempered
from common.learners.front_ends import Features, front_end, with_copies
from common.learners.linear import fit_discriminant
from common.learners.statistics import SAMPLE_RATE_HZ, SCALES
from common.records.clips import GoldClip
from common.records.gold import GoldSet
from common.records.text import template_caption
from common.runtime.devices import autocast
from common.runtime.seeding import derive_seed
from components.align_t2a.distance import Spectrum, clip_spectrum, latent_frechet, spectrum_distance
from components.align_t2a.encoding import EncodedPairs, encode_clips
from components.align_t2a.pairs import equalize, fit_length
from components.align_t2a.selection import DISTANCE, ERROR, LEARNER

Floats = NDArray[np.float64]
RIDGE = 0.2
"""Of the discriminant, over the number of gold clips; the value that does best on average for the learner `stats`."""


@dataclass(frozen=True)
class HeldOutBatch:
    """Validation clips of one latent length L; latents are (N, D, L)."""

    clip_ids: tuple[str, ...]
    latents: Tensor
    condition: Condition


HeldOut = tuple[HeldOutBatch, ...]
"""All validation clips, by latent length; empty if there are none."""


@torch.no_grad()
def encode_held_out(
    backend: T2ABackend, clips: Iterable[tuple[GoldClip, np.ndarray]], bucket_width: int, peak_limit_dbfs: float
) -> HeldOut:
    """Encode validation clips with audio (T,) at the model's rate as winners are encoded; silent ones are left out."""
    window = backend.max_frames * backend.hop_length
    opened: dict[int, list[tuple[GoldClip, float, Tensor]]] = {}
    for clip, audio in clips:
        length = min(len(audio), window)
        audible, _ = equalize(fit_length(audio, length), [], peak_limit_dbfs)
        if audible is None:
            continue
        duration_s = length / backend.sample_rate_hz
        frames = backend.frames(duration_s, bucket_width)
        opened.setdefault(frames, []).append((clip, duration_s, encode_clips(backend, [audible], frames)))
    return tuple(
        HeldOutBatch(
            tuple(clip.clip_id for clip, _, _ in rows),
            torch.cat([latents for _, _, latents in rows]),
            backend.condition(
                [template_caption(clip.label, *clip.further_labels) for clip, _, _ in rows],
                [seconds for _, seconds, _ in rows],
            ),
        )
        for _, rows in sorted(opened.items(), key=lambda entry: entry[0])
    )


@torch.no_grad()
def held_out_error(backend: T2ABackend, held_out: HeldOut, draws: int, batch_size: int, seed: int) -> float:
    """Squared prediction error, mean over elements, clips and draws.

    Noise and levels depend only on seed, clip and draw; two models therefore differ only by their weights.

    Args:
        draws: noise levels per clip; the level of draw i of n lies in (i / n, (i + 1) / n).
    """
    errors = []
    for batch in held_out:
        noise, levels = zip(*(_draw(batch, row, draws, seed) for row in range(len(batch.clip_ids))), strict=True)
        rows = torch.arange(len(batch.clip_ids)).repeat_interleave(draws)
        eps, t = torch.cat(noise), torch.cat(levels)
        for part in torch.arange(len(rows)).split(batch_size):
            condition = batch.condition[rows[part].to(batch.condition.cross.device)]
            z, noisy, level = (value.to(backend.device) for value in (batch.latents[rows[part]], eps[part], t[part]))
            errors.append(error(backend, z, noisy, level, condition).double().cpu())
    return float(torch.cat(errors).mean())


def _draw(batch: HeldOutBatch, row: int, draws: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(derive_seed(seed, "align_t2a", "held_out", batch.clip_ids[row]))
    eps = torch.randn((draws, *batch.latents.shape[1:]), generator=generator)
    t = (torch.arange(draws) + torch.rand(draws, generator=generator)) / draws
    return eps, t.clamp(1e-4, 1 - 1e-4)


@dataclass(frozen=True)
class HeldOutLearner:
    """The learner `stats` of a replicate, which scores sets of generated clips.

    Attributes:
        gold: features of the training clips and of their recorded copies.
        targets: (N, labels) 1 where a row of `gold` has the label.
        truth: (M, labels) of the validation clips.
    """

    source: GoldSet
    clips: int
    gold: list[Features]
    targets: Floats
    heard: list[Features]
    truth: Floats

    @classmethod
    def of(cls, source: GoldSet, replicate: int) -> HeldOutLearner | None:
        """The learner of a replicate; None without validation clips."""
        train, held_out, hears = source.train(replicate), source.val(replicate), front_end("statistics")
        if not held_out:
            return None
        rows = [with_copies(hears, source.load(clip, SAMPLE_RATE_HZ), clip.clip_id) for clip in train]
        targets = np.repeat(source.targets(train).astype(float), [len(own) for own in rows], axis=0)
        heard = hears([source.load(clip, SAMPLE_RATE_HZ) for clip in held_out])
        truth = source.targets(held_out).astype(float)
        return cls(source, len(train), [row for own in rows for row in own], targets, heard, truth)

    def loss(self, generated: Sequence[tuple[GoldClip, np.ndarray]] = (), rate: int = SAMPLE_RATE_HZ) -> float:
        """Calibrated cross-entropy on the validation clips, fitted to gold and to generated clips.

        Args:
            generated: the gold clip whose labels each has, and its audio, mono (T,); together they weigh as much as
                the gold clips. Empty = gold clips alone.
            rate: of the audio, in Hz.
        """
        audio = [resample(made, rate, SAMPLE_RATE_HZ) for _, made in generated]
        further, multi_label = front_end("statistics")(audio), self.source.multi_label
        ours = self.clips / (2 if further else 1)
        weights = [np.full(len(self.gold), ours / len(self.gold)), np.full(len(further), ours / max(len(further), 1))]
        head = fit_discriminant(
            np.stack(self.gold + further),
            np.concatenate([self.targets, self.source.targets([clip for clip, _ in generated])]),
            np.concatenate(weights),
            RIDGE / self.clips,
            multi_label,
            SCALES,
        )
        outputs = probabilities(head.logits(np.stack(self.heard)), multi_label)
        temperature = fit_temperature(outputs, self.truth, multi_label)
        return cross_entropy(tempered(outputs, temperature, multi_label), self.truth, multi_label)


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
        gold: what the generations are compared with.
        learner: given the generations as further clips.
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
        clips, sampler = self.clips, self.settings.sampler
        durations = [min(clip.duration_s, backend.window_s) for clip in clips]
        captions = [template_caption(clip.label, *clip.further_labels) for clip in clips]
        seeds = [derive_seed(self.seed, "align_t2a", "probe", clip.clip_id) for clip in clips]
        with self._precision(backend):
            made = sample_each(backend, captions, durations, seeds, sampler, sampler.bucket_frames)
        heard = [(clips[row], backend.decode_mono(latent, durations[row])) for row, latent in made]
        spectra: dict[str, list[Spectrum]] = {}
        for clip, audio in heard:
            spectra.setdefault(clip.label, []).append(clip_spectrum(audio, backend.sample_rate_hz))
        latents = [latent.numpy() for _, latent in made]
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
