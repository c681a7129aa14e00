"""The directory of a learner that is no transformers model: `learner.json` and `weights.safetensors`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from common.classifier.inference import probabilities
from common.errors import DataError
from common.learners.linear import Linear
from common.learners.statistics import SAMPLE_RATE_HZ, statistics
from common.storage import read_json, write_json

RECORD, WEIGHTS = "learner.json", "weights.safetensors"


@dataclass(frozen=True)
class StatisticsClassifier:
    """Logistic regression on `statistics`.

    Attributes:
        labels: by output index.
        multi_label: whether labels are independent.
        linear: features to logits.
    """

    labels: tuple[str, ...]
    multi_label: bool
    linear: Linear
    sample_rate_hz: int = SAMPLE_RATE_HZ

    def probabilities(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        """(N, labels) for mono waveforms (T,) at `sample_rate_hz`."""
        if not clips:
            return np.zeros((0, len(self.labels)))
        return probabilities(self.linear.logits(statistics(clips)), self.multi_label)

    def save(self, folder: Path) -> None:
        """Write the directory."""
        weights = {"weight": self.linear.weight.astype(np.float32), "bias": self.linear.bias.astype(np.float32)}
        save_file(weights, folder / WEIGHTS)
        record = {"learner": "stats", "labels": list(self.labels), "multi_label": self.multi_label}
        write_json(folder / RECORD, {**record, "sample_rate_hz": self.sample_rate_hz})


def is_learner(folder: Path) -> bool:
    """Whether the folder holds a learner of this kind, and no transformers model."""
    return (folder / RECORD).is_file()


def load_learner(folder: Path) -> StatisticsClassifier:
    """Load a learner's directory.

    Raises:
        DataError: it holds none, or its files are damaged or do not fit each other.
    """
    try:
        record = read_json(folder / RECORD)
        weights = load_file(folder / WEIGHTS)
        weight, bias = weights["weight"].astype(np.float64), weights["bias"].astype(np.float64)
        labels = tuple(str(label) for label in record["labels"])
        if weight.ndim != 2 or (len(labels), len(labels)) != (len(weight), len(bias)):
            raise ValueError(f"{len(labels)} labels, weights of the shape {weight.shape}")
        return StatisticsClassifier(labels, bool(record["multi_label"]), Linear(weight, bias))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DataError(f"cannot load the classifier at {folder}: {error}; make it again or copy it whole") from error
