"""How each learner gets its features, is fitted to them, and is saved: one record for each, see `kind_of`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.classifier.augmentation import spec_augment
from common.classifier.inference import BATCH_SIZE, embeddings, set_last_layer
from common.classifier.model import save_classifier, with_fresh_head
from common.config.learners import LearnersConfig
from common.contracts.training import Strength
from common.learners.cache import LabelTexts, fit_cache, label_texts
from common.learners.cnn import HOP, LogMel, fit_convnet
from common.learners.front_ends import (
    CLAP,
    ENCODER,
    PRETRAINED,
    Clap,
    Features,
    FrontEnd,
    front_end,
    open_encoder,
    recorded_copies,
)
from common.learners.linear import fit_discriminant, fit_logistic
from common.learners.model import LearnerModel, LinearHead
from common.learners.statistics import SCALES
from common.records.audio_folder import load_clip
from common.runtime.devices import device
from common.runtime.seeding import derive_seed
from common.runtime.work import Task
from common.storage.items import ItemStore
from components.train_classifier.clips import ClipSet
from components.train_classifier.job import LearnerJob, Pretrained, opened

Floats = NDArray[np.float64]
FEATURES = "features.npz"
PART = 64
"""Clips whose features are computed together."""


@dataclass(frozen=True)
class Rows:
    """Clips to fit to.

    Attributes:
        targets: (N, labels) 1 where it has the label.
        sources: (N,) place of the gold clip that each comes from, -1 for none.
    """

    features: list[Features]
    targets: Floats
    sources: NDArray[np.int64]

    @classmethod
    def none(cls, labels: int) -> Rows:
        """No clips."""
        return cls([], np.zeros((0, labels)), np.zeros(0, np.int64))

    def joined(self, other: Rows) -> Rows:
        """These clips, then `other`."""
        targets = np.concatenate([self.targets, other.targets])
        return Rows(self.features + other.features, targets, np.concatenate([self.sources, other.sources]))

    def of(self, places: NDArray[np.int64]) -> Rows:
        """Those that come from the gold clips at `places`, or from none."""
        kept = np.flatnonzero(np.isin(self.sources, [-1, *places]))
        return Rows([self.features[row] for row in kept], self.targets[kept], self.sources[kept])


Fit = Callable[[LearnerJob, Rows, Rows, float, Any, Strength | None], nn.Module]
"""Fits a head to gold clips, and to further ones with a share of the weight, 0 = without them; by an option of the kind
and, where the learner itself augments, a strength."""


@dataclass(frozen=True)
class Kind:
    """A learner's implementation.

    Attributes:
        save: writes the model's directory: job, head, temperature, folder.
        front_end_name: what alone decides the features; empty where the pretrained model does.
        options: values of its setting, or of its settings together, to choose from; JSON values.
        further_options: the same where there are further clips; None = what was chosen without them.
    """

    front_end: Callable[[Pretrained], FrontEnd]
    fit: Fit
    save: Callable[[LearnerJob, nn.Module, float, Path], None]
    options: Callable[[LearnersConfig], Sequence[Any]] = lambda _: (0.0,)
    front_end_name: str = ""
    further_options: Callable[[LearnersConfig], Sequence[Any]] | None = None


def feature_parts(learner: str, pretrained: Pretrained, clips: ClipSet, store: ItemStore, copies: bool) -> list[Task]:
    """Computation of the features of each clip, followed with `copies` by those of its recorded copies."""
    key = {"features": [kind_of(learner).front_end_name or pretrained.key, copies]}
    return [
        Task(store, {**key, "clips": part.identity}, partial(_save_features, learner, pretrained, part, copies))
        for part in clips.parts(PART)
    ]


def features_of(
    learner: str, pretrained: Pretrained, clips: ClipSet, store: ItemStore, copies: bool
) -> list[list[Features]]:
    """Result of `feature_parts` for each clip, computed once."""
    found, works = [], feature_parts(learner, pretrained, clips, store, copies)
    for work, part in zip(works, clips.parts(PART), strict=True):
        found += _saved_features(store.get_or_make(work.make, **work.key), len(part.clips))
    return found


def copies_of(job: LearnerJob, clips: ClipSet, sources: NDArray[np.int64], strength: Strength | None) -> Rows:
    """Copies of `clips` under the job's augmentation of waveforms; `sources` as in `Rows`."""
    hears = kind_of(job.learner).front_end(job.pretrained)
    found = _heard(hears, job.copies(clips, hears.sample_rate_hz, strength, job.replicate))
    each = [len(rows) for rows in found]
    targets = clips.targets(len(job.labels)).astype(np.float64)
    return Rows([row for rows in found for row in rows], np.repeat(targets, each, axis=0), np.repeat(sources, each))


def _heard(hears: FrontEnd, clips: Iterable[list[NDArray[np.float32]]]) -> list[list[Features]]:
    """Features of the waveforms of each clip, many at once: a model pads a small batch to its full size."""
    found: list[list[Features]] = []
    waiting: list[list[NDArray[np.float32]]] = []

    def hear() -> None:
        rows = iter(hears([waveform for waveforms in waiting for waveform in waveforms]))
        found.extend(list(islice(rows, len(waveforms))) for waveforms in waiting)
        waiting.clear()

    for waveforms in clips:
        waiting.append(waveforms)
        if sum(map(len, waiting)) >= BATCH_SIZE:
            hear()
    if waiting:
        hear()
    return found


def _joined(gold: Rows, further: Rows, share: float) -> tuple[NDArray[np.float32], Floats, Floats]:
    """Features, targets and weights of a linear learner.

    The weights sum up to the number of gold clips, with or without others, so that a penalty means the same.
    """
    clips, ours, others = len(set(gold.sources.tolist())), len(gold.features), len(further.features)
    if not share:
        return np.stack(gold.features), gold.targets, np.full(ours, clips / ours)
    used = gold.joined(further)
    weights = np.full(ours, clips * (1 - share) / ours), np.full(others, clips * share / max(others, 1))
    return np.stack(used.features), used.targets, np.concatenate(weights)


def _logistic(
    job: LearnerJob, gold: Rows, further: Rows, share: float, option: float, strength: Strength | None
) -> nn.Module:
    return LinearHead.of(fit_logistic(*_joined(gold, further, share), option, job.multi_label))


def _discriminant(
    job: LearnerJob, gold: Rows, further: Rows, share: float, option: float, strength: Strength | None
) -> nn.Module:
    ridge = option / len(set(gold.sources.tolist()))
    return LinearHead.of(fit_discriminant(*_joined(gold, further, share), ridge, job.multi_label, SCALES))


def _convnet(
    job: LearnerJob, gold: Rows, further: Rows, share: float, option: float, strength: Strength | None
) -> nn.Module:
    change = None
    if job.classic == "specaugment" and isinstance(strength, float):
        config, frames_per_s = job.settings.specaugment, LogMel.sample_rate_hz / HOP

        def change(batch: Tensor, generator: torch.Generator) -> Tensor:
            return spec_augment(batch, config, strength, frames_per_s, generator, float(batch.mean()))

    return fit_convnet(
        gold.features,
        gold.targets,
        further.features,
        further.targets,
        share,
        real_last=option,
        multi_label=job.multi_label,
        steps=job.settings.learners.cnn_steps,
        seed=derive_seed(job.replicate, "cnn"),
        change=change,
    )


def _few_shot(
    job: LearnerJob, gold: Rows, further: Rows, share: float, option: Any, strength: Strength | None
) -> nn.Module:
    of_clips, sharpness, several = option
    told = _label_texts(job.pretrained, job.labels)
    texts = told.several if several else told.plain
    return fit_cache(*_joined(gold, further, share), texts, told.scale, of_clips, sharpness, job.multi_label)


def _few_shot_options(config: LearnersConfig) -> list[tuple[float, float, bool]]:
    """Share of the labelled clips, sharpness, and whether labels are put in several words."""
    found = itertools.product(config.cache_shares, config.cache_sharpness, (False, True))
    # Clips without a say need no sharpness, texts without one no words.
    return list(dict.fromkeys((a, b if a else config.cache_sharpness[0], words and a < 1) for a, b, words in found))


def _save_module(name: str, job: LearnerJob, head: nn.Module, temperature: float, folder: Path) -> None:
    hears = _pretrained(job.pretrained) if name in PRETRAINED else None
    LearnerModel(job.learner, name, head, job.labels, job.multi_label, temperature, hears).save(folder)


def _save_probe(job: LearnerJob, head: nn.Module, temperature: float, folder: Path) -> None:
    """Fold scaler, weights and temperature into the last layer of an ordinary AST."""
    made = with_fresh_head(opened(job.pretrained), job.labels, 0, job.multi_label, job.pretrained.window_s)
    weight = head.weight * head.inverse  # type: ignore[operator]
    bias = head.bias - weight @ head.mean  # type: ignore[operator]
    set_last_layer(made, (weight / temperature).numpy(), (bias / temperature).numpy())
    save_classifier(made, folder)


class _Body:
    """The frozen classifier without its last layer."""

    def __init__(self, pretrained: Pretrained) -> None:
        # The head that `_save_probe` writes, but for its last layer.
        self._seen = with_fresh_head(opened(pretrained), ["a", "b"], 0, False, pretrained.window_s)
        self._seen.model.to(device())
        self.sample_rate_hz = self._seen.sample_rate_hz

    def __call__(self, waveforms: Sequence[NDArray[np.float32]]) -> list[Features]:
        return list(embeddings(self._seen, self._seen.front_end(waveforms)))


# Caches of what successive jobs of one process share; the keys include content hashes, so entries never become stale.
@lru_cache(maxsize=1)
def _pretrained(pretrained: Pretrained) -> FrontEnd:
    return open_encoder(pretrained.folder)


@lru_cache(maxsize=1)
def _label_texts(pretrained: Pretrained, labels: tuple[str, ...]) -> LabelTexts:
    clap = _pretrained(pretrained)
    assert isinstance(clap, Clap)
    return label_texts(clap.scorer, labels)


_body = lru_cache(maxsize=1)(_Body)


def _without_weights(
    name: str, fit: Fit, options: Callable[[LearnersConfig], Sequence[Any]] = lambda _: (0.0,)
) -> Kind:
    return Kind(lambda _: front_end(name), fit, partial(_save_module, name), options, name)


KINDS: dict[str, Kind] = {
    "probe": Kind(_body, _logistic, _save_probe, lambda c: c.inverse_penalties),
    "probe_clap": Kind(_pretrained, _logistic, partial(_save_module, CLAP), lambda c: c.inverse_penalties),
    "few_shot_clap": Kind(_pretrained, _few_shot, partial(_save_module, CLAP), _few_shot_options),
    "stats": _without_weights("statistics", _discriminant, lambda c: c.ridges),
    "cnn": replace(_without_weights("log_mel", _convnet), further_options=lambda c: c.real_last),
}
ENCODER_PROBE = Kind(_pretrained, _logistic, partial(_save_module, ENCODER), lambda c: c.inverse_penalties)


def kind_of(learner: str) -> Kind:
    """Implementation of a learner; one that is not in `KINDS` is the probe of an encoder."""
    return KINDS.get(learner, ENCODER_PROBE)


def _save_features(learner: str, pretrained: Pretrained, clips: ClipSet, with_copies: bool, folder: Path) -> None:
    hears = kind_of(learner).front_end(pretrained)
    rate = hears.sample_rate_hz
    waveforms = ((clip, load_clip(clips.folder, clip, rate)) for clip in clips.clips)
    heard = _heard(
        hears,
        (
            [waveform, *(recorded_copies(waveform, rate, clip.clip_id) if with_copies else ())]
            for clip, waveform in waveforms
        ),
    )
    found = [row for rows in heard for row in rows]
    # Features of clips of several lengths lie one behind the other.
    lengths = np.array([len(rows) if rows.ndim > 1 else 0 for rows in found], dtype=np.int64)
    rows = np.concatenate([np.atleast_2d(rows) for rows in found]) if found else np.zeros((0, 0), np.float32)
    np.savez(folder / FEATURES, rows=rows, lengths=lengths)


@lru_cache(maxsize=128)
def _saved_features(item: Path, clips: int) -> list[list[Features]]:
    with np.load(item / FEATURES, allow_pickle=False) as saved:
        rows, lengths = saved["rows"], saved["lengths"]
    parts = np.split(rows, np.maximum(lengths, 1).cumsum()[:-1]) if len(lengths) else []
    found = [part if length else part[0] for part, length in zip(parts, lengths, strict=True)]
    each = len(found) // max(clips, 1)
    return [found[start : start + each] for start in range(0, len(found), max(each, 1))]
