"""Features and labels of the corpus's clips, stored on the local disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from common.audio.signal import resample, to_mono
from common.classifier.features import LogMel
from common.corpus.features import ShardClips, StoredFeatures


@dataclass(frozen=True)
class ClipReader:
    """Reader for `write_features`: features and label ids of a shard's labelled clips.

    Clips without a label are skipped.
    """

    front_end: LogMel
    labels: tuple[str, ...]

    def __call__(self, source: ShardClips) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """Yield for each labelled clip its features (frames, bins) and its label id."""
        for clip in source.read():
            if clip.label is not None:
                waveform = resample(to_mono(clip.audio), clip.sample_rate_hz, self.front_end.sample_rate_hz)
                yield self.front_end([waveform])[0], {"label_id": self.labels.index(clip.label)}


class LabelledClips:
    """Labelled clips whose features are normalised on access.

    Args:
        mean: mean of the training clips' features; 0 for features that are normalised already.
        std: standard deviation of the training clips' features; 0.5 for features that are normalised already.

    Attributes:
        labels: (clips,) label ids.
    """

    def __init__(self, stored: StoredFeatures, mean: float, std: float) -> None:
        self._stored, self._mean, self._scale = stored, mean, 2 * std
        self.labels = np.array([stored.facts(index)["label_id"] for index in range(len(stored))], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: int) -> Tensor:
        """Features (frames, bins) of a clip."""
        return (self._stored.clip(index) - self._mean) / self._scale
