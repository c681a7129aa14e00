"""Sets of clips compared by content, and the selection of those that may fill a method's slot."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.config.clap import Keep
from common.config.recipes import Recipe
from common.errors import DataError
from common.records.clips import GoldClip, SyntheticClip
from common.runtime.seeding import numpy_generator
from common.storage.artifacts import file_hash


@dataclass(frozen=True)
class ClipSet:
    """Clips of one AudioFolder; sets are equal when ids, audio and labels are.

    `identity` holds (clip id, SHA-256 of the file, label id, ids of further labels …) of each clip.
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


def clip_set(
    folder: Path,
    clips: Sequence[GoldClip] | Sequence[SyntheticClip],
    label_ids: Callable[[GoldClip | SyntheticClip], tuple[int, ...]],
) -> ClipSet:
    """Build the set of `clips` of the AudioFolder at `folder`; hashes their audio files."""
    identity = tuple((c.clip_id, file_hash(folder / "clips" / c.file_name), *label_ids(c)) for c in clips)
    return ClipSet(identity, folder, tuple(clips))


def synthetic_clips(
    recipe: Recipe,
    replicate: int,
    clips: Sequence[SyntheticClip],
    augmentation_factor: int,
    rounds: int,
    train: Sequence[GoldClip] = (),
    keep: Keep | None = None,
) -> list[SyntheticClip]:
    """Select the clips of a recipe in one replicate, ordered by id.

    Args:
        clips: clips of all replicates and rounds, possibly of other recipes; a gold clip may have more than
            `augmentation_factor` (losers), of which the first ones count.
        keep: which clips to take of a surplus, for recipes with a filter; the `index` of a clip is then the turn in
            which it was taken, where each gold clip of its class takes one in a turn.
    """
    last = rounds if recipe.rounds is None else recipe.rounds
    chosen = [
        clip for clip in clips if (clip.recipe, clip.replicate) == (recipe.name, replicate) and clip.round <= last
    ]
    if keep and recipe.filter:
        chosen = _in_turns(chosen, train, keep)
    return sorted((clip for clip in chosen if clip.index < augmentation_factor), key=lambda clip: clip.clip_id)


def _in_turns(clips: Sequence[SyntheticClip], train: Sequence[GoldClip], keep: Keep) -> list[SyntheticClip]:
    """The clips with the turn in which each is taken as `index`."""
    order: Callable[[SyntheticClip], float] = {
        "first": lambda clip: clip.index,
        "unsure": lambda clip: math.inf if clip.second_probability is None else clip.second_probability,
        "sure": lambda clip: -(clip.second_probability or 0.0),
    }[keep]
    wanted, taken = Counter(clip.label for clip in train), Counter[str]()
    made = []
    for clip in sorted(clips, key=lambda clip: (order(clip), clip.clip_id)):
        made.append(clip.model_copy(update={"index": taken[clip.label] // max(wanted[clip.label], 1)}))
        taken[clip.label] += 1
    return made


def extra_real_clips(
    train: Sequence[GoldClip],
    validation: Sequence[GoldClip],
    labelled: Sequence[GoldClip],
    augmentation_factor: int,
    replicate: int,
) -> list[GoldClip]:
    """Draw labelled clips beyond the replicate's own, per class at most as many as synthetic clips would be.

    Groups (recordings, speakers, artists) that only the validation clips have are excluded.

    Returns clips ordered by id; empty where the dataset has no more clips.
    """
    used = {clip.clip_id for clip in (*train, *validation)}
    held_out = {clip.group for clip in validation} - {clip.group for clip in train} - {None}
    wanted = Counter({label: count * augmentation_factor for label, count in Counter(c.label for c in train).items()})
    free = sorted(
        (clip for clip in labelled if clip.clip_id not in used and clip.group not in held_out), key=lambda c: c.clip_id
    )
    chosen = []
    for place in numpy_generator(replicate, "extra real clips").permutation(len(free)):
        clip = free[place]
        if wanted[clip.label] > 0:
            wanted[clip.label] -= 1
            chosen.append(clip)
    return sorted(chosen, key=lambda clip: clip.clip_id)


def check_labels(clips: Sequence[SyntheticClip], labels: Sequence[str]) -> None:
    """Check that every clip's label matches the dataset's label of that id.

    Raises DataError: a label differs; the clips come from another dataset.
    """
    for clip in clips:
        if clip.label_id >= len(labels) or labels[clip.label_id] != clip.label:
            known = labels[clip.label_id] if clip.label_id < len(labels) else "nothing"
            raise DataError(
                f"synthetic clip {clip.clip_id} has label {clip.label!r} as number {clip.label_id}, which is {known!r} "
                "in this dataset; the clips were made for another one: make them again"
            )
