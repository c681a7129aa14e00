"""Features and labels of the corpus's clips, stored on the local disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from common.audio.signal import resample, to_mono
from common.classifier.features import LogMel
from common.classifier.model import build_extractor
from common.config.classifier import ASTArchitecture, LevelConfig
from common.corpus.features import ShardClips, StoredFeatures


def raw_log_mel(architecture: ASTArchitecture, level: LevelConfig | None = None) -> LogMel:
    """Log-mel feature extractor of an architecture at a level, without normalisation."""
    return LogMel(build_extractor(architecture, level, do_normalize=False))


@dataclass(frozen=True)
class ClipReader:
    """Reader for `write_features`: features and label ids of a shard's labelled clips.

    Clips without a label are skipped.
    """

    architecture: ASTArchitecture
    labels: tuple[str, ...]
    level: LevelConfig | None = None

    def __call__(self, source: ShardClips) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """Yield for each labelled clip its features (frames, bins), not normalised, and its label id."""
        log_mel = raw_log_mel(self.architecture, self.level)
        for clip in source.read():
            if clip.label is not None:
                waveform = resample(to_mono(clip.audio), clip.sample_rate_hz, log_mel.sample_rate_hz)
                yield log_mel([waveform])[0], {"label_id": self.labels.index(clip.label)}


class LabelledClips:
    """Labelled clips whose features are normalised on access.

    Args:
        stored: features written with `ClipReader`.
        mean: mean of the training clips' features.
        std: standard deviation of the training clips' features.

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
