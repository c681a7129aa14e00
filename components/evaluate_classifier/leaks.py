"""Leak guard: exact and near copies of test clips among the clips that training saw."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from common.audio.signal import pcm16
from common.clap.copies import Floats, Limits, Pair, Sounds, near_copies
from common.contracts.evaluation import CorpusCopies, Leak, LeakCounts, Leaks

MAX_LISTED = 50
"""Number of pairs listed; all are counted."""


@dataclass(frozen=True)
class ClipSet(Sounds):
    """Clips to compare.

    Attributes:
        ids: clip ids, (N,).
        fingerprints: (N,), from `fingerprint`.
    """

    name: str
    ids: list[str]
    fingerprints: list[str]


def fingerprint(waveform: Floats) -> str:
    """Hash of the samples (T,) in [-1, 1] at 16 bits, independent of file format, name and tags."""
    return hashlib.sha256(pcm16(waveform).tobytes()).hexdigest()


def find_leaks(
    test: ClipSet,
    others: list[ClipSet],
    limits: Limits,
    shared_groups: Sequence[str] = (),
    corpus_copies: CorpusCopies | None = None,
) -> Leaks:
    """Pairs of a test clip and another clip that are the same recording.

    Args:
        others: sets that training, alignment or generation used or made.
        corpus_copies: what `retrieve_audio` left out.
    """
    sets, pairs = {}, []
    kinds: tuple[Literal["exact", "near"], ...] = ("exact", "near")
    for other in others:
        exact = _exact(test, other)
        near, checked = near_copies(test, other, limits, frozenset((pair.clip, pair.other) for pair in exact))
        sets[other.name] = LeakCounts(clips=len(other.ids), exact=len(exact), near=len(near), checked=checked)
        pairs += [
            Leak(test=test.ids[i], set=other.name, clip=other.ids[j], kind=kind, cosine=similarity, correlation=value)
            for kind, found in zip(kinds, (exact, near), strict=True)
            for i, j, similarity, value in found
        ]
    return Leaks(
        sets=sets,
        pairs=pairs[:MAX_LISTED],
        test_clips=len({pair.test for pair in pairs}),
        test=len(test.ids),
        shared_groups=list(shared_groups),
        corpus_copies=corpus_copies,
    )


def _exact(test: ClipSet, other: ClipSet) -> list[Pair]:
    places: dict[str, list[int]] = {}
    for index, value in enumerate(other.fingerprints):
        places.setdefault(value, []).append(index)
    return [Pair(i, j, 1.0, 1.0) for i, value in enumerate(test.fingerprints) for j in places.get(value, [])]
