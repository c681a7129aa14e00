"""Sets of clips compared by content, not by folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.records.clips import GoldClip, SyntheticClip
from common.storage.artifacts import file_hash


@dataclass(frozen=True)
class ClipSet:
    """Clips of one AudioFolder; sets are equal when ids, audio and labels are.

    Attributes:
        identity: (clip id, SHA-256 of the file, label id, ids of further labels …) of each clip.
    """

    identity: tuple[tuple[Any, ...], ...]
    folder: Path = field(compare=False)
    clips: tuple[GoldClip | SyntheticClip, ...] = field(compare=False)

    @property
    def labels(self) -> np.ndarray:
        """(clips,) label ids."""
        return np.array([clip.label_id for clip in self.clips], dtype=np.int64)

    def targets(self, labels: int) -> np.ndarray:
        """(clips, labels) float32: 1 for each of a clip's labels."""
        made = np.zeros((len(self.identity), labels), np.float32)
        for row, (_, _, *own) in zip(made, self.identity, strict=True):
            row[own] = 1
        return made

    def parts(self, size: int) -> list[ClipSet]:
        """The set in parts of at most `size` clips, in order."""
        starts = range(0, len(self.clips), size)
        return [ClipSet(self.identity[i : i + size], self.folder, self.clips[i : i + size]) for i in starts]

    def first(self, factor: int | None) -> ClipSet:
        """Keep only the first `factor` synthetic clips of each gold clip; None = all."""
        chosen = [
            place
            for place, clip in enumerate(self.clips)
            if factor is None or not isinstance(clip, SyntheticClip) or clip.index < factor
        ]
        if len(chosen) == len(self.clips):
            return self
        return ClipSet(tuple(self.identity[i] for i in chosen), self.folder, tuple(self.clips[i] for i in chosen))


def main_label(clip: GoldClip | SyntheticClip) -> tuple[int, ...]:
    """Label ids of a clip where clips have one label."""
    return (clip.label_id,)


def clip_set(
    folder: Path,
    clips: Sequence[GoldClip] | Sequence[SyntheticClip],
    label_ids: Callable[[GoldClip | SyntheticClip], tuple[int, ...]] = main_label,
) -> ClipSet:
    """Build the set of `clips` of the AudioFolder at `folder`; hashes their audio files."""
    identity = tuple((c.clip_id, file_hash(folder / "clips" / c.file_name), *label_ids(c)) for c in clips)
    return ClipSet(identity, folder, tuple(clips))
