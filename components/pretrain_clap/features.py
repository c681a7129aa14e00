"""Features, captions and labels of the corpus's clips, on this machine's disk."""

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
    """Gives the features of the clips of a shard, and their captions and labels: for `write_features`."""

    features: ClapFeatures

    def __call__(self, source: ShardClips) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """Windows (W, 1, frames, mel_bins) of each clip, and its caption and label."""
        for clip in source.read():
            waveform = resample(to_mono(clip.audio), clip.sample_rate_hz, self.features.sample_rate_hz)
            windows = self.features(torch.from_numpy(self.features.windows(waveform)))
            # Fused checkpoints take the same spectrogram four times.
            yield windows[:, :1], {"caption": clip.caption, "label": clip.label}


@dataclass(frozen=True)
class StoredWindows:
    """The windows of all clips as `common.clap.training` takes them.

    Attributes:
        stored: what `ClipReader` gave.
        channels: of the model's input: 1, or 4 for fused checkpoints.
    """

    stored: StoredFeatures
    channels: int = 1

    def __len__(self) -> int:
        return self.stored.rows

    def __getitem__(self, rows: list[int]) -> Tensor:
        return torch.stack([self.stored.row(row) for row in rows]).expand(-1, self.channels, -1, -1)


@dataclass(frozen=True)
class StoredTexts:
    """Caption and, where labels are used, label prompt of each window."""

    stored: StoredFeatures
    use_labels: bool

    def __getitem__(self, row: int) -> Sequence[str]:
        facts = self.stored.facts(self.stored.owner(row))
        if not self.use_labels or facts["label"] is None:
            return [facts["caption"]]
        return [facts["caption"], template_caption(facts["label"])]


@dataclass(frozen=True)
class StoredLabels:
    """Label of each window, None where there is none or labels are not used."""

    stored: StoredFeatures
    use_labels: bool

    def __getitem__(self, row: int) -> str | None:
        return self.stored.facts(self.stored.owner(row))["label"] if self.use_labels else None
