"""Leak guard: exact and near copies of test clips among the clips that training saw."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from common.audio.signal import pcm16
from common.contracts.evaluation import Leak, LeakCounts, Leaks

Floats = NDArray[np.float32]

MAX_LISTED = 50
"""Number of pairs listed; all are counted."""


@dataclass(frozen=True)
class ClipSet:
    """Clips to compare.

    Attributes:
        ids: clip ids, (N,).
        fingerprints: (N,), from `fingerprint`.
        embeddings: (N, D), rows of norm 1.
        load: mono waveform (T,) of a clip by index, at one rate for all sets.
    """

    name: str
    ids: list[str]
    fingerprints: list[str]
    embeddings: Floats
    load: Callable[[int], Floats]


def fingerprint(waveform: Floats) -> str:
    """Hash of the samples (T,) in [-1, 1] at 16 bits, independent of file format, name and tags."""
    return hashlib.sha256(pcm16(waveform).tobytes()).hexdigest()


def waveform_correlation(first: Floats, second: Floats) -> float:
    """Largest absolute normalised cross-correlation over lags with an overlap of half of the shorter clip or more.

    1 for copies at any gain, polarity or shift; below about 0.3 for two recordings of one sound; 0 if one is silent.
    Waveforms are (T,) and (U,), at the same rate.
    """
    a, b = first.astype(np.float64), second.astype(np.float64)
    length = next_fast_len(len(a) + len(b) - 1, real=True)
    products = irfft(rfft(a, length) * np.conj(rfft(b, length)), length)
    least = -(-min(len(a), len(b)) // 2)
    lags = np.arange(least - len(b), len(a) - least + 1)
    start, stop = np.maximum(lags, 0), np.minimum(lags + len(b), len(a))
    energy_a, energy_b = (np.concatenate([[0.0], np.cumsum(x**2)]) for x in (a, b))
    energies = (energy_a[stop] - energy_a[start]) * (energy_b[stop - lags] - energy_b[start - lags])
    # If one clip is nearly silent in the overlap, the quotient would be noise over almost zero.
    allowed = energies > 1e-3 * energy_a[-1] * energy_b[-1]
    if not allowed.any():
        return 0.0
    return float(min(1.0, np.max(np.abs(products[lags[allowed]]) / np.sqrt(energies[allowed]))))


def find_leaks(
    test: ClipSet,
    others: list[ClipSet],
    *,
    cosine: float,
    correlation: float,
    neighbours: int,
    shared_groups: Sequence[str] = (),
) -> Leaks:
    """Pairs of a test clip and another clip that are the same recording.

    Args:
        others: sets that training, alignment or generation used or made.
        cosine: similarity of embeddings from which a pair is checked by its waveforms.
        correlation: correlation of the waveforms that confirms a near copy.
        neighbours: number of pairs considered per test clip and set, the most similar ones.
    """
    sets, pairs = {}, []
    kinds: tuple[Literal["exact", "near"], ...] = ("exact", "near")
    for other in others:
        exact = _exact(test, other)
        near, checked = _near(test, other, {(i, j) for i, j, *_ in exact}, cosine, correlation, neighbours)
        sets[other.name] = LeakCounts(clips=len(other.ids), exact=len(exact), near=len(near), checked=checked)
        pairs += [
            Leak(test=test.ids[i], set=other.name, clip=other.ids[j], kind=kind, cosine=similarity, correlation=value)
            for kind, found in zip(kinds, (exact, near), strict=True)
            for i, j, similarity, value in found
        ]
    touched = len({pair.test for pair in pairs})
    return Leaks(
        sets=sets, pairs=pairs[:MAX_LISTED], test_clips=touched, test=len(test.ids), shared_groups=list(shared_groups)
    )


def _exact(test: ClipSet, other: ClipSet) -> list[tuple[int, int, float, float]]:
    places: dict[str, list[int]] = {}
    for index, value in enumerate(other.fingerprints):
        places.setdefault(value, []).append(index)
    return [(i, j, 1.0, 1.0) for i, value in enumerate(test.fingerprints) for j in places.get(value, [])]


def _near(
    test: ClipSet, other: ClipSet, known: set[tuple[int, int]], cosine: float, correlation: float, neighbours: int
) -> tuple[list[tuple[int, int, float, float]], int]:
    found, checked = [], 0
    # Many test clips ask for the same neighbours.
    load = lru_cache(maxsize=512)(other.load)
    for i, row in enumerate(test.embeddings):
        similarity = other.embeddings @ row
        # Stable sort: equal similarities keep the order of the clips.
        order = np.argsort(-similarity, kind="stable")[:neighbours]
        near = [int(j) for j in order if similarity[j] >= cosine and (i, int(j)) not in known]
        if not near:
            continue
        checked += len(near)
        waveform = test.load(i)
        for j in near:
            value = waveform_correlation(waveform, load(j))
            if value >= correlation:
                found.append((i, j, float(similarity[j]), value))
    return found, checked
