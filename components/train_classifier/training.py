"""Train one classifier on one budget and keep the checkpoint that does best on validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from common.classifier.augmentation import spec_augment
from common.classifier.features import LogMel, random_window_features
from common.classifier.inference import feature_logits
from common.classifier.model import Classifier
from common.classifier.scores import accuracy, macro_f1
from common.config.base import OptimConfig
from common.config.classifier import SpecAugmentConfig
from common.storage import read_json, write_json
from common.training import fit
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
) -> Callable[[int, torch.Generator], tuple[Tensor, Mapping[str, float]]]:
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

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        chosen = np.concatenate([budget.gold[step], budget.slot[step]])
        batch = _draw(examples.features, chosen, log_mel, generator)
        if specaugment is not None:
            config, strength = specaugment
            batch = spec_augment(batch, config, strength, log_mel.sample_rate_hz, generator)
        logits = classifier.model(batch.to(device)).logits
        truth = torch.from_numpy(examples.labels[chosen]).to(device)
        losses = nn.functional.cross_entropy(logits, truth, reduction="none")
        return (losses * weights).sum() / weights.sum(), {}

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


class BestCheckpoint:
    """Evaluates on validation and keeps the best weights; a later checkpoint must be strictly better.

    Args:
        classifier: whose weights are kept.
        validation: clips that choose; one variant each.
        select_by: `accuracy` or `macro_f1`; ties go to the lower loss, then to the earlier step.
        folder: where the best weights survive a restart; None = nowhere.
    """

    def __init__(self, classifier: Classifier, validation: Examples, select_by: str, folder: Path | None) -> None:
        self._classifier, self._validation, self._select_by, self._folder = classifier, validation, select_by, folder
        self.figures: dict[str, float] = {}
        self._weights: dict[str, Tensor] = {}
        if folder is not None and (folder / "best.json").is_file():
            self.figures = read_json(folder / "best.json")
            self._weights = load_file(folder / f"best-{self.figures['best_step']:g}.safetensors")

    def evaluate(self, step: int) -> Mapping[str, float]:
        """Validation figures after `step` steps, for `common.training.fit`."""
        figures = self._measure()
        if not self.figures or self._order(figures) > self._order(self.figures):
            self.figures = {**figures, "best_step": float(step)}
            weights = self._classifier.model.state_dict()
            self._weights = {key: value.detach().cpu().clone() for key, value in weights.items()}
            self._save()
        return figures

    def restore(self) -> None:
        """Put the best weights into the model."""
        self._classifier.model.load_state_dict(self._weights)

    def _order(self, figures: Mapping[str, float]) -> tuple[float, float]:
        return figures[f"val_{self._select_by}"], -figures["val_loss"]

    def _measure(self) -> dict[str, float]:
        features = [variants[0] for variants in self._validation.features]
        logits = feature_logits(self._classifier, features).cpu()
        truth = self._validation.labels
        predicted = logits.argmax(dim=1).numpy()
        return {
            "val_accuracy": accuracy(truth, predicted),
            "val_macro_f1": macro_f1(truth, predicted),
            "val_loss": float(nn.functional.cross_entropy(logits, torch.from_numpy(truth))),
        }

    def _save(self) -> None:
        if self._folder is None:
            return
        # Weights under the step's name first, then the record that names them: a kill leaves a valid pair.
        save_file(self._weights, self._folder / f"best-{self.figures['best_step']:g}.safetensors")
        write_json(self._folder / "best.json", self.figures)
        for old in self._folder.glob("best-*.safetensors"):
            if old.name != f"best-{self.figures['best_step']:g}.safetensors":
                old.unlink()


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
    work_dir: Path | None = None,
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
        select_by: see `BestCheckpoint`.
        specaugment: see `batch_loss`.
        seed: of the replicate.
        work_dir: where unfinished work is kept.

    Returns:
        `curve`, and with validation `best_step` and the figures of that checkpoint.

    Raises:
        DataError: the loss is not finite.
    """
    best = BestCheckpoint(classifier, validation, select_by, work_dir) if validation is not None else None
    curve = fit(
        classifier.model,
        batch_loss(classifier, examples, budget, slot_weight, specaugment),
        optim,
        seed=seed,
        name=NAME,
        checkpoint_dir=work_dir,
        evaluate=best.evaluate if best is not None else None,
    )
    if best is not None:
        best.restore()
    classifier.model.eval()
    return {"curve": curve, **(best.figures if best is not None else {})}
