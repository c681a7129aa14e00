"""The idea of the stage: train an audio classifier (AST) on the corpus's labelled clips.

It starts from random weights or a checkpoint, and keeps the step that does best on held-out clips. Without `optim`
nothing is trained: `get_published` verifies the checkpoint. One or several processes train. Read next: run.py (which of
the two happens, and the result as an item of the store). The loop is in `common.training`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from common.audio.signal import resample, to_mono
from common.classifier.augmentation import draw_conditions, spec_augment
from common.classifier.features import LogMel, random_window_features
from common.classifier.inference import feature_logits, probabilities
from common.classifier.model import (
    Classifier,
    at_level,
    build_classifier,
    build_extractor,
    load_classifier,
    log_mel_of,
    save_classifier,
    with_fresh_head,
)
from common.classifier.scores import accuracy, mean_average_precision
from common.config.base import OptimConfig
from common.config.classifier import PretrainClassifierConfig, PretrainClassifierPlan
from common.corpus.features import Facts, ShardClips, StoredFeatures, audio_shards, write_features
from common.corpus.pretraining import Pretraining
from common.corpus.shards import Corpus, Split
from common.errors import DataError
from common.models.registry import locate
from common.runtime.devices import device
from common.runtime.seeding import derive_seed, epoch_rows, numpy_generator
from common.storage import write_json
from common.training import LossFunction, Part, best_by, fit, is_main, launch
from common.training.launch import default_processes

NAME = "pretrain_classifier"
TRAINING = "training.json"
TRAIN: Split = "train"
HELD_OUT: Split = "heldout"
CHUNK = 256
"""Held-out clips evaluated at a time; bounds memory."""


Job = Pretraining[PretrainClassifierPlan]
FILES = ("config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json")


def pretrain(job: Job, folder: Path) -> None:
    """Train on the corpus's training split, evaluate on its held-out split, write a classifier and `training.json`.

    Features are computed first, once and in bounded memory; a killed run resumes. They are normalised as the checkpoint
    does it, or by mean and standard deviation of the training split, as AST does with AudioSet. Clips without a label
    are left out and counted. One process per GPU trains.

    Raises:
        ConfigError: the batch cannot be split over the processes, or the checkpoint cannot be trained here.
        DataError: a split has no labelled clips, a shard is damaged, or the loss is not finite.
        Interrupted: SIGTERM arrived; a checkpoint is stored.
    """
    settings, names = job.plan.settings, tuple(Corpus(job.corpus_dir).labels)
    start = starting_point(job.plan, names) if names else None  # a head of no labels cannot be built
    unscaled = build_extractor(settings.architecture, settings.level, do_normalize=False)
    read = partial(read_labelled, log_mel_of(start, "optim") if start else LogMel(unscaled), names)
    for split, what, count in (
        (TRAIN, "training", settings.max_clips),
        (HELD_OUT, "held-out", settings.max_held_out_clips),
    ):
        shards = audio_shards(job.corpus_dir, split, count)
        if not len(write_features(job.scratch / split, shards, read, settings.feature_precision)):
            raise DataError(
                f"the corpus has no labelled {what} clips; give its captions file a label column, or name a "
                "checkpoint in pretrain_classifier.checkpoint"
            )
    launch(train, (job, folder), default_processes())


def train(where: tuple[Job, Path]) -> None:
    """Train in one process of `pretrain`; the first process writes the result."""
    job, folder = where
    settings, names = job.plan.settings, Corpus(job.corpus_dir).labels
    assert settings.optim is not None
    stored = StoredFeatures(job.scratch / TRAIN)
    classifier, mean, std = starting_point(job.plan, names), 0.0, 0.5
    if classifier is None:
        values = stored.sample().double()
        mean, std = float(values.mean()), float(values.std())
        del values
        seed = derive_seed(job.plan.seed, "weights")
        classifier = build_classifier(settings.architecture, names, mean, std, seed, settings.level)
    classifier.model.to(device())
    training = LabelledClips(stored, mean, std)
    held_out = LabelledClips(StoredFeatures(job.scratch / HELD_OUT), mean, std)

    def evaluate(step: int) -> dict[str, float]:
        # Only the first process evaluates; the others wait.
        return held_out_figures(classifier, held_out) if is_main() else {}

    curve = fit(
        classifier.model,
        batch_loss(classifier, training, settings, settings.optim, job.plan.seed),
        settings.optim,
        seed=job.plan.seed,
        name=NAME,
        checkpoints=job.store.checkpoints(**job.key),
        evaluate=evaluate,
        best=best_by(f"held_out_{settings.select_by}"),
    )
    if is_main():
        read = sum(source.clips for source in audio_shards(job.corpus_dir, TRAIN, settings.max_clips))
        figures = {
            "checkpoint": settings.checkpoint,
            "revision": settings.revision,
            "labels": len(names),
            "clips": len(training),
            "unlabelled_clips": read - len(training),
            "held_out_clips": len(held_out),
            "mean": mean,
            "std": std,
            "best_step": curve.best_step,
            **{key: value for key, value in curve.best.items() if key.startswith("held_out_")},
            "curve": curve,
        }
        classifier.model.to("cpu")
        save_classifier(classifier, folder)
        write_json(folder / TRAINING, figures)


def starting_point(plan: PretrainClassifierPlan, labels: Sequence[str]) -> Classifier | None:
    """The checkpoint of the settings, at their level and with a new head for `labels`; None without a checkpoint.

    Raises:
        ConfigError: it is not available, or takes features of an unsupported kind.
        DataError: it is damaged, or is no audio classifier.
    """
    settings = plan.settings
    if settings.checkpoint is None:
        return None
    published = get_published(settings.checkpoint, settings.revision, settings.window_s)
    heard = at_level(published, settings.level) if settings.level else published
    return with_fresh_head(heard, labels, derive_seed(plan.seed, "head"))


def held_out_figures(classifier: Classifier, held_out: LabelledClips) -> dict[str, float]:
    """Compute `held_out_accuracy` and `held_out_map` (mean of the labels' average precision)."""
    logits = [
        feature_logits(classifier, [held_out[index] for index in range(start, min(start + CHUNK, len(held_out)))])
        for start in range(0, len(held_out), CHUNK)
    ]
    scores = torch.cat(logits).cpu().numpy()
    return {
        "held_out_accuracy": accuracy(held_out.labels, scores.argmax(axis=1)),
        "held_out_map": mean_average_precision(held_out.labels, probabilities(scores)),
    }


def read_labelled(front_end: LogMel, labels: tuple[str, ...], source: ShardClips) -> Iterator[tuple[Tensor, Facts]]:
    """Yield for each labelled clip of a shard its features (frames, bins) and its label id; others are skipped."""
    for clip in source.read():
        if clip.label is not None:
            waveform = resample(to_mono(clip.audio), clip.sample_rate_hz, front_end.sample_rate_hz)
            yield front_end([waveform])[0], {"label_id": labels.index(clip.label)}


class LabelledClips:
    """Labelled clips whose features are normalised on access; mean 0 and deviation 0.5 leave them as they are."""

    def __init__(self, stored: StoredFeatures, mean: float, std: float) -> None:
        self._stored, self._mean, self._scale = stored, mean, 2 * std
        self.labels = np.array([stored.facts(index)["label_id"] for index in range(len(stored))], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: int) -> Tensor:
        """Features (frames, bins) of a clip."""
        return (self._stored.clip(index) - self._mean) / self._scale


def batch_loss(
    classifier: Classifier, clips: LabelledClips, settings: PretrainClassifierConfig, optim: OptimConfig, seed: int
) -> LossFunction:
    """Mean cross-entropy of a step's batch; each epoch is a random permutation, windows are drawn at random."""
    model, front_end, strength = classifier.model, classifier.front_end, settings.specaugment_strength

    def loss(step: int, generator: torch.Generator, part: Part) -> tuple[Tensor, Mapping[str, float]]:
        chosen = epoch_rows(len(clips), optim.batch_size, step, seed, "epoch")
        own = part.rows(len(chosen))
        positions = torch.rand(len(chosen), generator=generator, dtype=torch.float64).tolist()
        # Drawn for the whole batch, so that the number of processes does not change them.
        conditions = draw_conditions(settings.recording, len(chosen), front_end, generator)
        with part.waiting.running():
            windows = torch.stack(
                [
                    random_window_features(change(clips[index]), front_end.max_length, front_end.pad_value, position)
                    for index, position, change in zip(
                        chosen[own].tolist(), positions[own], conditions[own], strict=True
                    )
                ]
            )
        if strength:
            # So are the masks; other rows are 0.
            whole = windows.new_zeros((len(chosen), *windows.shape[1:]))
            whole[own] = windows
            windows = spec_augment(whole, settings.specaugment, strength, front_end.frames_per_s, generator)[own]
        device = next(model.parameters()).device
        logits = model(windows.to(device)).logits
        return nn.functional.cross_entropy(logits, torch.from_numpy(clips.labels[chosen[own]]).to(device)), {}

    return loss


def get_published(checkpoint: str, revision: str | None, window_s: float) -> Classifier:
    """Locate, load and verify a published checkpoint.

    Raises:
        ConfigError: it is not available, or takes features of an unsupported kind.
        DataError: it is damaged, is no audio classifier, or gives logits that are not finite.
    """
    classifier = load_classifier(locate(checkpoint, revision, FILES), window_s)
    noise = numpy_generator(0, "verify").standard_normal(classifier.sample_rate_hz).astype(np.float32) * 0.1
    if not feature_logits(classifier, classifier.front_end([noise])).isfinite().all():
        raise DataError(f"{checkpoint}: logits of a second of noise are not finite; the weights are damaged")
    return classifier
