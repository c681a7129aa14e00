"""The idea of the stage: train every method on an equal budget of gold and synthetic clips, so that gains compare.

This module trains one classifier and keeps the checkpoint that does best on validation. Read next: budget.py (which
clips each step sees), job.py and ast_training.py (one training as an item of the store), candidates.py and selection.py
(all trainings of a run, and the choice on validation), inputs.py and clips.py (the clips of a job), waveform.py
(classic augmentation), contrastive.py (optional first phase), learners.py (the other learners), run.py (the order of
the steps).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.classifier.augmentation import CLEAN, draw_conditions, spec_augment
from common.classifier.features import FrontEnd, LogMel, random_window_features
from common.classifier.inference import feature_logits, probabilities
from common.classifier.model import Classifier
from common.config.base import OptimConfig
from common.config.classifier import RecordingConfig, SpecAugmentConfig
from common.errors import ConfigError
from common.learners.calibration import validation_figures
from common.storage.checkpoints import Checkpoints
from common.training import LossFunction, Part, fit
from components.train_classifier.budget import Budget

NAME = "train_classifier"


@dataclass(frozen=True)
class Examples:
    """Features and labels of clips.

    Attributes:
        features: variants of each clip (the clip itself, then augmented copies), each (frames, bins).
        labels: (clips,) label ids; the main label where clips have several.
        targets: (clips, labels) float32, 1 where a clip has the label; None = every clip has one label.
    """

    features: Sequence[Sequence[Tensor]]
    labels: np.ndarray
    targets: np.ndarray | None = None

    def truth(self, indices: np.ndarray) -> Tensor:
        """Targets for `example_losses`: (B,) label ids, or (B, labels) where clips have several labels."""
        return torch.from_numpy((self.labels if self.targets is None else self.targets)[indices])

    def matrix(self, labels: int) -> np.ndarray:
        """(clips, labels) float64, 1 where a clip has the label."""
        return np.eye(labels)[self.labels] if self.targets is None else self.targets.astype(np.float64)


def example_losses(logits: Tensor, truth: Tensor) -> Tensor:
    """Loss (B,) of each example, from logits (B, labels).

    Truth (B,) of label ids gives cross-entropy; (B, labels) in [0, 1] gives binary cross-entropy, averaged over labels.
    """
    if truth.is_floating_point():
        return nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(dim=1)
    return nn.functional.cross_entropy(logits, truth, reduction="none")


def batch_loss(
    classifier: Classifier,
    examples: Examples,
    budget: Budget,
    specaugment: tuple[SpecAugmentConfig, float] | None,
    mixup_alpha: float = 0.0,
    recording: RecordingConfig = CLEAN,
) -> LossFunction:
    """Build the loss of a step, in the form that `common.training.fit` takes.

    The loss is the mean over the examples. Variant and window of each example are drawn before any augmentation, with
    as many draws for every method.

    Args:
        examples: gold clips first, then synthetic ones, as indexed by `budget`.
        specaugment: settings and strength; None = no masks.
        mixup_alpha: parameter of the Beta distribution; 0 = no mixup.

    Raises ConfigError: masks or other recording conditions are requested for a model that takes no spectrograms.
    """
    if specaugment is not None and not classifier.front_end.spectral:
        raise ConfigError(
            "SpecAugment masks spectrograms, and this classifier takes waveforms; leave the method out, or name a "
            "classifier on spectrograms in pretrain_classifier.checkpoint"
        )
    if recording.on and not isinstance(classifier.front_end, LogMel):
        raise ConfigError(
            "train_classifier.recording changes spectrograms, and this classifier takes waveforms; leave it out, or "
            "name a classifier on spectrograms in pretrain_classifier.checkpoint"
        )
    device = next(classifier.model.parameters()).device
    front_end = classifier.front_end

    def loss(step: int, generator: torch.Generator, part: Part) -> tuple[Tensor, Mapping[str, float]]:
        chosen = np.concatenate([budget.gold[step], budget.slot[step]])
        batch = draw_windows(examples.features, chosen, front_end, generator, recording)
        if specaugment is not None:
            config, strength = specaugment
            batch = spec_augment(batch, config, strength, front_end.frames_per_s, generator)
        own = part.rows(len(chosen))
        truth = examples.truth(chosen)
        if not mixup_alpha:
            return example_losses(classifier.logits(batch[own]), truth[own].to(device)).mean(), {}
        mixing = draw_mixing(len(chosen), mixup_alpha, generator)
        logits = classifier.logits(mixing.features(batch)[own])
        # The loss is linear in the labels, so mixing losses equals mixing labels.
        first, second = (example_losses(logits, labels[own].to(device)) for labels in (truth, truth[mixing.partners]))
        return (mixing.share * first + (1 - mixing.share) * second).mean(), {}

    return loss


def draw_windows(
    features: Sequence[Sequence[Tensor]],
    chosen: np.ndarray,
    front_end: FrontEnd,
    generator: torch.Generator,
    recording: RecordingConfig = CLEAN,
) -> Tensor:
    """Draw one window of one variant of each chosen clip, under one recording condition; (B, max_length, bins)."""
    draws = torch.rand(len(chosen), 2, generator=generator, dtype=torch.float64).tolist()
    conditions = draw_conditions(recording, len(chosen), front_end, generator)
    windows = []
    for index, (variant, position), change in zip(chosen.tolist(), draws, conditions, strict=True):
        variants = features[index]
        clip = change(variants[int(variant * len(variants))])
        windows.append(random_window_features(clip, front_end.max_length, front_end.pad_value, position))
    return torch.stack(windows)


def figures_of(classifier: Classifier, validation: Examples) -> dict[str, float]:
    """`validation_figures` of unaugmented clips, with a loss whose probabilities are not cut off."""
    logits = feature_logits(classifier, [variants[0] for variants in validation.features]).cpu()
    several = validation.targets is not None
    figures = validation_figures(probabilities(logits.numpy(), several), validation.matrix(logits.shape[1]), several)
    return {**figures, "val_loss": float(example_losses(logits, validation.truth(np.arange(len(logits)))).mean())}


def selection_figure(select_by: str | None, multi_label: bool) -> str:
    """Validation figure that decides the selection; default: accuracy, or map where clips have several labels.

    Raises ConfigError: the figure does not suit such labels.
    """
    known = ("map", "macro_f1") if multi_label else ("accuracy", "macro_f1")
    if select_by is not None and select_by not in known:
        labels = "several labels" if multi_label else "one label"
        raise ConfigError(
            f"train_classifier.select_by is {select_by!r}, but the dataset's clips have {labels}; set it to one of "
            f"{', '.join(known)}, or null"
        )
    return select_by or known[0]


def best_row(curve: Sequence[Mapping[str, float]], select_by: str) -> Mapping[str, float]:
    """Row of the curve that does best on validation.

    Ties of `select_by` go to the lower loss, then to the earlier step. At least one row has `validation_figures`.
    """
    evaluated = [row for row in curve if "val_loss" in row]
    return max(evaluated, key=lambda row: (row[f"val_{select_by}"], -row["val_loss"]))


def train(
    classifier: Classifier,
    examples: Examples,
    validation: Examples | None,
    budget: Budget,
    optim: OptimConfig,
    *,
    select_by: str,
    specaugment: tuple[SpecAugmentConfig, float] | None,
    mixup_alpha: float = 0.0,
    recording: RecordingConfig = CLEAN,
    seed: int,
    checkpoints: Checkpoints | None = None,
) -> dict[str, Any]:
    """Train `classifier` in place.

    The seed of a step depends only on the replicate and the step, so that all methods of a replicate share gold order,
    windows and dropout. `batch_loss` describes the loss and its arguments.

    Args:
        validation: decides the checkpoint; None = keep the last one.

    Raises:
        ConfigError: masks or other recording conditions are requested for a model that takes no spectrograms.
        DataError: the loss is not finite.

    Returns `curve`; with validation also `best_step` and the figures of that checkpoint.
    """
    curve = fit(
        classifier.model,
        batch_loss(classifier, examples, budget, specaugment, mixup_alpha, recording),
        optim,
        seed=seed,
        name=NAME,
        checkpoints=checkpoints,
        evaluate=None if validation is None else lambda _: figures_of(classifier, validation),
        best=None if validation is None else lambda rows: int(best_row(rows, select_by)["step"]),
    )
    classifier.model.eval()
    if validation is None:
        return {"curve": curve}
    figures = {key: value for key, value in curve.best.items() if key.startswith("val_")}
    return {"curve": curve, "best_step": float(curve.best_step), **figures}


@dataclass(frozen=True)
class Mixing:
    """Mixup of a batch with a permutation of itself (arXiv 1710.09412).

    Attributes:
        share: weight of the first example of each pair, in [0, 1].
        partners: (B,) permutation; the second example of each pair.
    """

    share: float
    partners: Tensor

    def features(self, batch: Tensor) -> Tensor:
        """Mix features (B, frames, bins); NaN stays only beyond the end of both clips of a pair."""
        filled = batch.nan_to_num(0.0)
        mixed = self.share * filled + (1 - self.share) * filled[self.partners]
        return mixed.masked_fill(batch.isnan() & batch[self.partners].isnan(), float("nan"))


def draw_mixing(count: int, alpha: float, generator: torch.Generator) -> Mixing:
    """Draw the mixup of a batch: one share for all pairs from Beta(alpha, alpha), as in the paper's code.

    An alpha of 1 gives uniform shares, values near 0 give hardly any mixing.
    """
    partners = torch.randperm(count, generator=generator)
    seed = int(torch.randint(2**31, (1,), generator=generator))
    return Mixing(float(np.random.default_rng(seed).beta(alpha, alpha)), partners)
