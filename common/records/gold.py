"""The gold set: labelled training and validation clips, and their assignment to replicates."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.contracts.base import read
from common.contracts.gold import Dataset, Replicate, Splits
from common.errors import DataError
from common.records.audio_folder import load_clip, read_clips
from common.records.clips import GoldClip, Labelled


class GoldSet:
    """Reader of the artifact `gold` written by `prepare_dataset`; a clip's `label_id` indexes its sorted `labels`.

    Raises DataError: the folder holds no gold set.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.labels = read(list[str], self.path / "labels.json")
        self.clips: dict[str, GoldClip] = {clip.clip_id: clip for clip in read_clips(self.path, GoldClip)}
        self.dataset = read(Dataset, self.path / "dataset.json")
        self._splits = read(Splits, self.path / "splits.json")

    @property
    def replicates(self) -> list[int]:
        """Numbers of the replicates, sorted."""
        return sorted(self._splits.replicates)

    @property
    def shared(self) -> bool:
        """Whether all replicates have the same training clips."""
        return self._splits.shared_gold

    @property
    def multi_label(self) -> bool:
        """Whether clips may have several labels."""
        return self.dataset.multi_label

    def train(self, replicate: int) -> list[GoldClip]:
        """Training clips of a replicate. Raises DataError: there is no such replicate."""
        return [self.clips[clip_id] for clip_id in self._of(replicate).train]

    def val(self, replicate: int) -> list[GoldClip]:
        """Validation clips of a replicate. Raises DataError: there is no such replicate."""
        return [self.clips[clip_id] for clip_id in self._of(replicate).val]

    def oracle(self) -> list[GoldClip]:
        """Training clips of the oracle: labelled data outside test and the first replicate's validation."""
        return [self.clips[clip_id] for clip_id in self._splits.oracle]

    def label_ids(self, clip: Labelled) -> tuple[int, ...]:
        """Ids of all labels of a clip, its main label first.

        Raises DataError: a label is not among the dataset's labels.
        """
        if unknown := [label for label in clip.labels if label not in self.labels]:
            raise DataError(
                f"{self.path}: a clip has the labels {unknown}, which labels.json does not list; clips and gold must "
                "come from the same run"
            )
        return tuple(map(self.labels.index, clip.labels))

    def targets(self, clips: Sequence[Labelled]) -> NDArray[np.bool_]:
        """(clips, labels) whether a clip has a label. Raises DataError: as `label_ids`."""
        made = np.zeros((len(clips), len(self.labels)), dtype=bool)
        for row, clip in zip(made, clips, strict=True):
            row[list(self.label_ids(clip))] = True
        return made

    def load(self, clip: GoldClip, sample_rate_hz: int) -> np.ndarray:
        """Load a clip's audio, mono `(T,)` float32 at `sample_rate_hz`."""
        return load_clip(self.path, clip, sample_rate_hz)

    def _of(self, replicate: int) -> Replicate:
        if replicate not in self._splits.replicates:
            raise DataError(f"{self.path}: no replicate {replicate}, only {self.replicates}; prepare the dataset again")
        return self._splits.replicates[replicate]
