"""Train the classifier from random weights on labelled clips held in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers.models.audio_spectrogram_transformer.feature_extraction_audio_spectrogram_transformer import (
    ASTFeatureExtractor,
)

from common.classifier.augmentation import spec_augment
from common.classifier.features import LogMel, random_window_features
from common.classifier.inference import feature_logits
from common.classifier.model import Classifier, build_classifier
from common.classifier.scores import accuracy
from common.config.classifier import ASTArchitecture, PretrainClassifierConfig
from common.errors import DataError
from common.seeding import derive_seed, numpy_generator
from common.training import fit

NAME = "pretrain_classifier"


@dataclass(frozen=True)
class LabelledClips:
    """Labelled clips.

    Attributes:
        features: (frames, bins) of each clip, not normalised.
        labels: (clips,) label ids.
    """

    features: Sequence[Tensor]
    labels: np.ndarray


def raw_log_mel(architecture: ASTArchitecture) -> LogMel:
    """The features of an architecture without normalisation."""
    extractor = ASTFeatureExtractor(
        sampling_rate=architecture.sample_rate_hz,
        num_mel_bins=architecture.num_mel_bins,
        max_length=architecture.max_length,
        do_normalize=False,
    )
    return LogMel(extractor)


def pretrain(
    training: LabelledClips,
    held_out: LabelledClips,
    names: Sequence[str],
    settings: PretrainClassifierConfig,
    seed: int,
    work_dir: Path | None = None,
) -> tuple[Classifier, dict[str, object]]:
    """Train on one part of the corpus and measure on the other.

    Features are normalised by mean and deviation of the training part, as AST does with AudioSet.

    Args:
        training: labelled clips.
        held_out: others.
        names: label strings by label id.
        settings: architecture, optimiser, masks.
        seed: of weights and draws.
        work_dir: where unfinished work is kept.

    Returns:
        The classifier, and `curve`, `held_out_accuracy`, `mean`, `std`, `clips`, `held_out_clips`.

    Raises:
        DataError: a part has no labelled clips, or the loss is not finite.
    """
    for part, what in ((training, "training"), (held_out, "held-out")):
        if not part.features:
            raise DataError(
                f"the corpus has no labelled {what} clips; give its captions file a label column, or name a "
                "checkpoint in pretrain_classifier.checkpoint"
            )
    values = torch.cat(list(training.features))
    mean, std = float(values.double().mean()), float(values.double().std())
    classifier = build_classifier(settings.architecture, names, mean, std, derive_seed(seed, "weights"))
    classifier.model.to("cuda" if torch.cuda.is_available() else "cpu")
    scaled = LabelledClips([(clip - mean) / (2 * std) for clip in training.features], training.labels)
    curve = fit(
        classifier.model,
        BatchLoss(classifier, scaled, settings, seed),
        settings.optim,
        seed=seed,
        name=NAME,
        checkpoint_dir=work_dir,
    )
    logits = feature_logits(classifier, [(clip - mean) / (2 * std) for clip in held_out.features])
    figures = {
        "curve": curve,
        "mean": mean,
        "std": std,
        "clips": len(training.labels),
        "held_out_clips": len(held_out.labels),
        "held_out_accuracy": accuracy(held_out.labels, logits.argmax(dim=1).cpu().numpy()),
    }
    classifier.model.to("cpu")
    return classifier, figures


class BatchLoss:
    """Mean cross-entropy of a step's batch; epochs are permutations, windows are random."""

    def __init__(
        self, classifier: Classifier, clips: LabelledClips, settings: PretrainClassifierConfig, seed: int
    ) -> None:
        self._model, self._log_mel, self._settings = classifier.model, classifier.log_mel, settings
        self._features, self._labels = clips.features, clips.labels
        count = settings.optim.steps * settings.optim.batch_size
        clips_each = len(clips.labels)
        orders = [numpy_generator(seed, "epoch", n).permutation(clips_each) for n in range(-(-count // clips_each))]
        self._chosen = np.concatenate(orders)[:count].reshape(settings.optim.steps, -1)

    def __call__(self, step: int, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        """The loss of `step`, for `common.training.fit`."""
        chosen = self._chosen[step]
        positions = torch.rand(len(chosen), generator=generator, dtype=torch.float64).tolist()
        windows = [
            random_window_features(self._features[index], self._log_mel.max_length, self._log_mel.pad_value, position)
            for index, position in zip(chosen.tolist(), positions, strict=True)
        ]
        batch = torch.stack(windows)
        if self._settings.specaugment_strength:
            batch = spec_augment(
                batch,
                self._settings.specaugment,
                self._settings.specaugment_strength,
                self._log_mel.sample_rate_hz,
                generator,
            )
        device = next(self._model.parameters()).device
        logits = self._model(batch.to(device)).logits
        return nn.functional.cross_entropy(logits, torch.from_numpy(self._labels[chosen]).to(device)), {}
