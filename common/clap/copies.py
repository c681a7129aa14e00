"""Copies of a recording among other clips, told by CLAP embeddings and confirmed by the waveforms."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from common.audio.signal import levelled

Floats = NDArray[np.float32]

COMPARE_RATE_HZ = 16000
"""Rate at which waveforms are compared."""
_SHORT_S = 0.25
_SHORT_CORRELATION = 0.99
"""Least correlation of shorter clips. Of two utterances of one word by one speaker (free spoken digits), cut to 50 ms,
4 % correlate by more than 0.9 at the best lag, and none by 0.99; a copy of another level or format still does."""


_FLOOR_DB = -35.0
"""Of the noise that `heard_alike` adds, to the level of the clip."""


@dataclass(frozen=True)
class Sounds:
    """Clips to compare.

    Attributes:
        embeddings: (N, D), rows of norm 1, of clips at one level, so that gain does not hide copies.
        load: mono waveform (T,) of a clip by index, at one rate for all sets.
    """

    embeddings: Floats
    load: Callable[[int], Floats]


def heard_alike(x: np.ndarray) -> np.ndarray:
    """A waveform (T,) at one level, over a noise floor that hides those of files: (T,) float32, for embeddings.

    A copy in 16 bits at a tenth of the level, or as Ogg or MP3, differs in its silence, which some CLAPs hear first.
    With this floor 95 to 100 % of such copies of spoken digits reach a cosine of 0.98 in nano's CLAP, without it 10 to
    70 %.
    """
    x = levelled(x)
    noise = np.random.default_rng(0).standard_normal(len(x))
    return np.asarray(x + noise * np.sqrt(np.mean(np.square(x))) * 10 ** (_FLOOR_DB / 20), dtype=np.float32)


class Limits(NamedTuple):
    """When a pair counts as a copy.

    Attributes:
        cosine: similarity of embeddings from which a pair is checked by its waveforms.
        correlation: correlation of the waveforms that confirms a near copy, where clips are not too short for it.
        neighbours: number of pairs considered per clip, the most similar ones.
    """

    cosine: float
    correlation: float
    neighbours: int


class Pair(NamedTuple):
    """Indices of a clip and its copy, the cosine of their embeddings and the correlation of their waveforms."""

    clip: int
    other: int
    cosine: float
    correlation: float


def waveform_correlation(first: Floats, second: Floats) -> float:
    """Largest absolute normalised cross-correlation over lags with an overlap of half of the shorter clip or more.

    1 for copies at any gain, polarity or shift; below about 0.3 for two recordings of one sound, unless they are short;
    0 if one is silent.
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


def near_copies(
    clips: Sounds, other: Sounds, limits: Limits, known: frozenset[tuple[int, int]] = frozenset()
) -> tuple[list[Pair], int]:
    """Pairs of a clip and one of `other` that are the same recording, but those of indices in `known`.

    Returns them, and the number of pairs whose waveforms were compared.
    """
    found, checked = list[Pair](), 0
    # Many test clips ask for the same neighbours.
    load = lru_cache(maxsize=512)(other.load)
    for i, row in enumerate(clips.embeddings):
        similarity = other.embeddings @ row
        # Stable sort: equal similarities keep the order of the clips.
        order = np.argsort(-similarity, kind="stable")[: limits.neighbours]
        near = [int(j) for j in order if similarity[j] >= limits.cosine and (i, int(j)) not in known]
        if not near:
            continue
        checked += len(near)
        waveform = clips.load(i)
        for j in near:
            candidate = load(j)
            value = waveform_correlation(waveform, candidate)
            short = min(len(waveform), len(candidate)) < _SHORT_S * COMPARE_RATE_HZ
            if value >= (max(limits.correlation, _SHORT_CORRELATION) if short else limits.correlation):
                found.append(Pair(i, j, float(similarity[j]), value))
    return found, checked
