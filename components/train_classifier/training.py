"""Train one classifier on one budget and keep the checkpoint that does best on validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.checkpoints import Checkpoints
from common.classifier.augmentation import spec_augment
from common.classifier.features import LogMel, random_window_features
from common.classifier.inference import feature_logits
from common.classifier.model import Classifier
from common.classifier.scores import accuracy, macro_f1
from common.config.base import OptimConfig
from common.config.classifier import SpecAugmentConfig
from common.training import LossFunction, Part, fit
from components.train_classifier.budget import Budget

NAME = "train_classifier"


@dataclass(frozen=True)
class Examples:
    """Clips with labels.

    Attributes:
        features: per clip its variants (the clip itself, then noisy copies), each (frames, bins).
        labels: (clips,) label ids.
    """

    features: Sequence[Sequence[Tensor]]
    labels: np.ndarray


def batch_loss(
    classifier: Classifier,
    examples: Examples,
    budget: Budget,
    slot_weight: float,
    specaugment: tuple[SpecAugmentConfig, float] | None,
) -> LossFunction:
    """The loss of a step, for `common.training.fit`.

    Mean cross-entropy with weight 1 in the gold part and `slot_weight` in the slot, divided by the
    sum of the weights. Variant and window of each example are drawn before any augmentation, and as
    often for every method.

    Args:
        classifier: its model is trained.
        examples: gold clips first, then synthetic ones, as `budget` counts them.
        budget: the clips of each step.
        slot_weight: of each example in the slot.
        specaugment: settings and strength; None = no masks.
    """
    device = next(classifier.model.parameters()).device
    gold_size, slot_size = budget.gold.shape[1], budget.slot.shape[1]
    weights = torch.tensor([1.0] * gold_size + [slot_weight] * slot_size, device=device)
    log_mel = classifier.log_mel

    def loss(step: int, generator: torch.Generator, part: Part) -> tuple[Tensor, Mapping[str, float]]:
        chosen = np.concatenate([budget.gold[step], budget.slot[step]])
        batch = _draw(examples.features, chosen, log_mel, generator)
        if specaugment is not None:
            config, strength = specaugment
            batch = spec_augment(batch, config, strength, log_mel.sample_rate_hz, generator)
        own = part.rows(len(chosen))
        logits = classifier.model(batch[own].to(device)).logits
        truth = torch.from_numpy(examples.labels[chosen[own]]).to(device)
        losses = nn.functional.cross_entropy(logits, truth, reduction="none")
        return (losses * weights[own]).sum() * part.count / weights.sum(), {}

    return loss


def _draw(
    features: Sequence[Sequence[Tensor]], chosen: np.ndarray, log_mel: LogMel, generator: torch.Generator
) -> Tensor:
    draws = torch.rand(len(chosen), 2, generator=generator, dtype=torch.float64).tolist()
    windows = []
    for index, (variant, position) in zip(chosen.tolist(), draws, strict=True):
        variants = features[index]
        clip = variants[int(variant * len(variants))]
        windows.append(random_window_features(clip, log_mel.max_length, log_mel.pad_value, position))
    return torch.stack(windows)


def validation_figures(classifier: Classifier, validation: Examples) -> dict[str, float]:
    """`val_accuracy`, `val_macro_f1` and `val_loss` of the clips' first variants."""
    logits = feature_logits(classifier, [variants[0] for variants in validation.features]).cpu()
    truth = validation.labels
    predicted = logits.argmax(dim=1).numpy()
    return {
        "val_accuracy": accuracy(truth, predicted),
        "val_macro_f1": macro_f1(truth, predicted),
        "val_loss": float(nn.functional.cross_entropy(logits, torch.from_numpy(truth))),
    }


def best_row(curve: Sequence[Mapping[str, float]], select_by: str) -> Mapping[str, float]:
    """The evaluated row that does best on validation.

    Args:
        curve: of `common.training.fit`; at least one row holds `validation_figures`.
        select_by: `accuracy` or `macro_f1`; ties go to the lower loss, then to the earlier step.
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
        seed: of the replicate.
        checkpoints: where unfinished work is kept.

    Returns:
        `curve`, and with validation `best_step` and the figures of that checkpoint.

    Raises:
        DataError: the loss is not finite.
    """
    curve = fit(
        classifier.model,
        batch_loss(classifier, examples, budget, slot_weight, specaugment),
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
