"""Train one classifier on one budget and keep the checkpoint that does best on validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.classifier.augmentation import spec_augment
from common.classifier.features import random_window_features
from common.classifier.front_end import FrontEnd
from common.classifier.inference import feature_logits, probabilities
from common.classifier.model import Classifier
from common.classifier.scores import accuracy, macro_f1, multi_label_macro_f1, multi_label_map
from common.config.base import OptimConfig
from common.config.classifier import SpecAugmentConfig
from common.errors import ConfigError
from common.storage.checkpoints import Checkpoints
from common.training import LossFunction, Part, fit
from components.train_classifier.budget import Budget

NAME = "train_classifier"


@dataclass(frozen=True)
class Examples:
    """Clips with labels.

    Attributes:
        features: per clip its variants (the clip itself, then augmented copies), each (frames, bins).
        labels: (clips,) label ids; of clips of several labels the main one.
        targets: (clips, labels) float32, 1 where a clip has the label; None = each clip has one.
    """

    features: Sequence[Sequence[Tensor]]
    labels: np.ndarray
    targets: np.ndarray | None = None

    def truth(self, indices: np.ndarray) -> Tensor:
        """What `example_losses` compares with: (B,) label ids, or (B, labels)."""
        return torch.from_numpy((self.labels if self.targets is None else self.targets)[indices])


def example_losses(logits: Tensor, truth: Tensor) -> Tensor:
    """The loss of each example, (B,).

    Args:
        logits: (B, labels).
        truth: (B,) label ids: cross-entropy. (B, labels) in [0, 1]: binary cross-entropy, mean over the labels.
    """
    if truth.is_floating_point():
        return nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(dim=1)
    return nn.functional.cross_entropy(logits, truth, reduction="none")


def batch_loss(
    classifier: Classifier,
    examples: Examples,
    budget: Budget,
    slot_weight: float,
    specaugment: tuple[SpecAugmentConfig, float] | None,
    mixup_alpha: float = 0.0,
) -> LossFunction:
    """The loss of a step, for `common.training.fit`.

    Mean loss of the examples with weight 1 in the gold part and `slot_weight` in the slot, divided by
    the sum of the weights. Variant and window of each example are drawn before any augmentation, and as
    often for every method.

    Args:
        classifier: its model is trained.
        examples: gold clips first, then synthetic ones, as `budget` counts them.
        budget: the clips of each step.
        slot_weight: of each example in the slot.
        specaugment: settings and strength; None = no masks.
        mixup_alpha: see `draw_mixing`; 0 = no mixup.

    Raises:
        ConfigError: masks are asked for a model that takes no spectrogram.
    """
    if specaugment is not None and not classifier.front_end.spectral:
        raise ConfigError(
            "SpecAugment masks spectrograms, and this classifier takes waveforms; leave the method out, or name a "
            "classifier on spectrograms in pretrain_classifier.checkpoint"
        )
    device = next(classifier.model.parameters()).device
    gold_size, slot_size = budget.gold.shape[1], budget.slot.shape[1]
    weights = torch.tensor([1.0] * gold_size + [slot_weight] * slot_size, device=device)
    front_end = classifier.front_end

    def loss(step: int, generator: torch.Generator, part: Part) -> tuple[Tensor, Mapping[str, float]]:
        chosen = np.concatenate([budget.gold[step], budget.slot[step]])
        batch = draw_windows(examples.features, chosen, front_end, generator)
        if specaugment is not None:
            config, strength = specaugment
            batch = spec_augment(batch, config, strength, front_end.sample_rate_hz, generator)
        own = part.rows(len(chosen))
        truth = examples.truth(chosen)
        if not mixup_alpha:
            losses = example_losses(classifier.logits(batch[own]), truth[own].to(device))
            return (losses * weights[own]).sum() * part.count / weights.sum(), {}
        mixing = draw_mixing(len(chosen), mixup_alpha, generator)
        logits = classifier.logits(mixing.features(batch)[own])
        total = logits.new_zeros(())
        for share, rows in ((mixing.share, torch.arange(len(chosen))), (1 - mixing.share, mixing.partners)):
            # Both losses are linear in the labels: mixed losses are the losses of mixed labels.
            losses = example_losses(logits, truth[rows[own]].to(device))
            total = total + share * (losses * weights[rows[own].to(device)]).sum()
        return total * part.count / weights.sum(), {}

    return loss


def draw_windows(
    features: Sequence[Sequence[Tensor]], chosen: np.ndarray, front_end: FrontEnd, generator: torch.Generator
) -> Tensor:
    """(B, max_length, bins): of each chosen clip one window of one variant."""
    draws = torch.rand(len(chosen), 2, generator=generator, dtype=torch.float64).tolist()
    windows = []
    for index, (variant, position) in zip(chosen.tolist(), draws, strict=True):
        variants = features[index]
        clip = variants[int(variant * len(variants))]
        windows.append(random_window_features(clip, front_end.max_length, front_end.pad_value, position))
    return torch.stack(windows)


def validation_figures(classifier: Classifier, validation: Examples) -> dict[str, float]:
    """`val_loss` of the clips' first variants, `val_macro_f1`, and `val_accuracy`, or `val_map` of several labels."""
    logits = feature_logits(classifier, [variants[0] for variants in validation.features]).cpu()
    if validation.targets is not None:
        scores = probabilities(logits.numpy(), multi_label=True)
        return {
            "val_map": multi_label_map(validation.targets, scores),
            "val_macro_f1": multi_label_macro_f1(validation.targets, scores),
            "val_loss": float(
                nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(validation.targets))
            ),
        }
    truth = validation.labels
    predicted = logits.argmax(dim=1).numpy()
    return {
        "val_accuracy": accuracy(truth, predicted),
        "val_macro_f1": macro_f1(truth, predicted),
        "val_loss": float(nn.functional.cross_entropy(logits, torch.from_numpy(truth))),
    }


def selection_figure(select_by: str | None, multi_label: bool) -> str:
    """The validation figure to choose by: what is asked for, else accuracy, or map where clips have several labels.

    Raises:
        ConfigError: the figure is not one of such clips.
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
    """The evaluated row that does best on validation.

    Args:
        curve: of `common.training.fit`; at least one row holds `validation_figures`.
        select_by: `accuracy`, `macro_f1` or `map`; ties go to the lower loss, then to the earlier step.
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
    slot_weight: float,
    select_by: str,
    specaugment: tuple[SpecAugmentConfig, float] | None,
    mixup_alpha: float = 0.0,
    seed: int,
    checkpoints: Checkpoints | None = None,
) -> dict[str, Any]:
    """Train `classifier` in place.

    The seed of a step depends on the replicate and the step only, so that all methods of a
    replicate share gold order, windows and dropout.

    Args:
        classifier: with a fresh head.
        examples: see `batch_loss`.
        validation: chooses the checkpoint; None = the last one stays.
        budget: as many steps as `optim.steps`.
        optim: optimiser and schedule.
        slot_weight: see `batch_loss`.
        select_by: see `best_row`.
        specaugment: see `batch_loss`.
        mixup_alpha: see `batch_loss`.
        seed: of the replicate.
        checkpoints: where unfinished work is kept.

    Returns:
        `curve`, and with validation `best_step` and the figures of that checkpoint.

    Raises:
        ConfigError: see `batch_loss`.
        DataError: the loss is not finite.
    """
    curve = fit(
        classifier.model,
        batch_loss(classifier, examples, budget, slot_weight, specaugment, mixup_alpha),
        optim,
        seed=seed,
        name=NAME,
        checkpoints=checkpoints,
        evaluate=None if validation is None else lambda _: validation_figures(classifier, validation),
        best=None if validation is None else lambda rows: int(best_row(rows, select_by)["step"]),
    )
    classifier.model.eval()
    if validation is None:
        return {"curve": curve}
    chosen = best_row(curve, select_by)
    figures = {key: value for key, value in chosen.items() if key.startswith("val_")}
    return {"curve": curve, "best_step": chosen["step"], **figures}


@dataclass(frozen=True)
class Mixing:
    """How a batch is mixed (arXiv 1710.09412): with itself in another order.

    Attributes:
        share: of the first example of each pair, in [0, 1].
        partners: (B,) a permutation: the second example of each pair.
    """

    share: float
    partners: Tensor

    def features(self, batch: Tensor) -> Tensor:
        """(B, frames, bins) mixed; beyond the end of both clips of a pair NaN stays NaN."""
        mixed = self.values(batch.nan_to_num(0.0))
        return mixed.masked_fill(batch.isnan() & batch[self.partners].isnan(), float("nan"))

    def values(self, batch: Tensor) -> Tensor:
        """(B, …) mixed: for targets."""
        return self.share * batch + (1 - self.share) * batch[self.partners]


def draw_mixing(count: int, alpha: float, generator: torch.Generator) -> Mixing:
    """The mixing of a batch of `count`: one share for all from Beta(alpha, alpha), as in the paper's code.

    Args:
        count: examples.
        alpha: above 0; 1 = uniform shares, towards 0 hardly any mixing.
        generator: of the draws.
    """
    partners = torch.randperm(count, generator=generator)
    seed = int(torch.randint(2**31, (1,), generator=generator))
    return Mixing(float(np.random.default_rng(seed).beta(alpha, alpha)), partners)
