"""Features, captions and labels of the corpus's clips, stored on the local disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from common.audio.signal import resample, to_mono
from common.clap.features import ClapFeatures
from common.corpus.features import ShardClips, StoredFeatures
from common.records.text import template_caption


@dataclass(frozen=True)
class ClipReader:
    """Reader for `write_features`: features, captions and labels of a shard's clips."""

    features: ClapFeatures

    def __call__(self, source: ShardClips) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """Yield for each clip its windows (W, 1, frames, mel_bins), and its caption and label."""
        for clip in source.read():
            waveform = resample(to_mono(clip.audio), clip.sample_rate_hz, self.features.sample_rate_hz)
            windows = self.features(torch.from_numpy(self.features.windows(waveform)))
            # Fused checkpoints take the same spectrogram four times.
            yield windows[:, :1], {"caption": clip.caption, "label": clip.label}


@dataclass(frozen=True)
class StoredWindows:
    """Windows of all clips, in the form that `common.clap.training` takes.

    Attributes:
        channels: input channels of the model: 1, or 4 for fused checkpoints.
    """

    stored: StoredFeatures
    channels: int = 1

    def __len__(self) -> int:
        return self.stored.rows

    def __getitem__(self, rows: list[int]) -> Tensor:
        return torch.stack([self.stored.row(row) for row in rows]).expand(-1, self.channels, -1, -1)


@dataclass(frozen=True)
class StoredTexts:
    """Texts of each window: its clip's caption and, with `use_labels`, the label prompt."""

    stored: StoredFeatures
    use_labels: bool

    def __getitem__(self, row: int) -> Sequence[str]:
        facts = self.stored.facts(self.stored.owner(row))
        if not self.use_labels or facts["label"] is None:
            return [facts["caption"]]
        return [facts["caption"], template_caption(facts["label"])]


@dataclass(frozen=True)
class StoredLabels:
    """Label of each window; None where the clip has none or `use_labels` is false."""

    stored: StoredFeatures
    use_labels: bool

    def __getitem__(self, row: int) -> str | None:
        return self.stored.facts(self.stored.owner(row))["label"] if self.use_labels else None
