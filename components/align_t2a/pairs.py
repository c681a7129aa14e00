"""Pairs of a winner (a gold clip) and a loser (a generated one), treated alike. Free of torch.

A preference model learns any difference between the two, so loudness, length, crop and polarity must
not differ: what remains is how the clips sound.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from common.audio.signal import is_silent, loudest_window, rms_dbfs
from common.errors import DataError
from common.records.clips import GoldClip, SyntheticClip


@dataclass(frozen=True)
class Group:
    """A gold clip and the generated clips that lose against it."""

    winner: GoldClip
    losers: tuple[SyntheticClip, ...]


LoadedGroup = tuple[Group, np.ndarray, list[np.ndarray]]
"""A group, its winner's audio (T,) and its losers' (T,), mono at the model's rate."""


def groups(
    gold: Sequence[GoldClip], generated: Iterable[SyntheticClip], seed: int, losers_per_clip: int
) -> list[Group]:
    """For each gold clip of a replicate its losers of that replicate, by index.

    Args:
        gold: training clips of the replicate.
        generated: clips of the unaligned model, of any replicate.
        seed: the replicate.
        losers_per_clip: how many of each clip's losers are used.

    Raises:
        DataError: a gold clip has fewer losers.
    """
    losers: dict[str, list[SyntheticClip]] = {}
    for clip in generated:
        if clip.seed == seed and clip.index < losers_per_clip:
            losers.setdefault(clip.source_clip_id, []).append(clip)
    made = []
    for winner in gold:
        found = tuple(sorted(losers.get(winner.clip_id, ()), key=lambda clip: clip.index))
        if len(found) != losers_per_clip:
            raise DataError(
                f"gold clip {winner.clip_id!r} of replicate {seed} has {len(found)} losers, expected "
                f"{losers_per_clip}; losers must be what synthesize_audio made for the same gold set and seeds"
            )
        made.append(Group(winner, found))
    return made


def fit_length(audio: np.ndarray, length: int) -> np.ndarray:
    """`audio` (T,) brought to `length` samples: its loudest window, or itself followed by silence."""
    if len(audio) > length:
        return loudest_window(audio, length)
    return np.pad(audio, (0, length - len(audio)))


def equalize(
    winner: np.ndarray, losers: Sequence[np.ndarray], peak_limit_dbfs: float
) -> tuple[np.ndarray | None, list[np.ndarray | None]]:
    """Bring a winner and its losers to one RMS level, by gain alone.

    The level is the winner's, or the highest below it that keeps every peak within the limit.

    Args:
        winner: (T,).
        losers: each (T,).
        peak_limit_dbfs: of every result.

    Returns:
        The winner, and the losers in order; None stands for a silent clip, which no gain can help (all
        of them where the winner is silent).
    """
    clips = [winner, *losers]
    if is_silent(winner):
        return None, [None] * len(losers)
    levels = [rms_dbfs(clip) for clip in clips]
    audible = [index for index, clip in enumerate(clips) if not is_silent(clip)]
    crests = [20 * float(np.log10(np.abs(clips[index]).max())) - levels[index] for index in audible]
    target = min(levels[0], peak_limit_dbfs - max(crests))
    scaled = {index: clips[index] * np.float32(10 ** ((target - levels[index]) / 20)) for index in audible}
    return scaled[0], [scaled.get(index) for index in range(1, len(clips))]
