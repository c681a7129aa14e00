"""Pairs of a winner (gold clip) and a loser (generated clip), equalised. Free of torch.

A preference loss learns any difference between the two. Loudness, length, crop and polarity must
therefore match; only the sound of the clips may differ.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from common.audio.signal import is_silent, loudest_window, rms_dbfs
from common.errors import DataError
from common.records.clips import GoldClip, SyntheticClip


@dataclass(frozen=True)
class Group:
    """A gold clip and the generated clips it wins against."""

    winner: GoldClip
    losers: tuple[SyntheticClip, ...]


LoadedGroup = tuple[Group, np.ndarray, list[np.ndarray]]
"""A group with the audio of its winner (T,) and of its losers (T,), mono at the model's rate."""


def groups(
    gold: Sequence[GoldClip], generated: Iterable[SyntheticClip], replicate: int, losers_per_clip: int
) -> list[Group]:
    """Groups of a replicate: each gold clip with its losers, sorted by index.

    Raises DataError: a gold clip has fewer losers.
    """
    losers: dict[str, list[SyntheticClip]] = {}
    for clip in generated:
        if clip.replicate == replicate and clip.index < losers_per_clip:
            losers.setdefault(clip.source_clip_id, []).append(clip)
    made = []
    for winner in gold:
        found = tuple(sorted(losers.get(winner.clip_id, ()), key=lambda clip: clip.index))
        if len(found) != losers_per_clip:
            raise DataError(
                f"gold clip {winner.clip_id!r} of replicate {replicate} has {len(found)} losers, expected "
                f"{losers_per_clip}; losers must be what synthesize_audio made for the same gold set and replicates"
            )
        made.append(Group(winner, found))
    return made


def fit_length(audio: np.ndarray, length: int) -> np.ndarray:
    """`audio` (T,) cut or padded to `length` samples: its loudest window, or itself followed by silence."""
    if len(audio) > length:
        return loudest_window(audio, length)
    return np.pad(audio, (0, length - len(audio)))


def equalize(
    winner: np.ndarray, losers: Sequence[np.ndarray], peak_limit_dbfs: float
) -> tuple[np.ndarray | None, list[np.ndarray | None]]:
    """Scale a winner and its losers to one RMS level, by gain alone.

    The level is the winner's, or the highest below it that keeps every peak within the limit. Clips are (T,).

    Returns the winner, and the losers in order. None replaces a silent clip, which no gain can help; if the winner is
    silent, all are None.
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
