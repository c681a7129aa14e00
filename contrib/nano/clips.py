"""Clips of the corpus, and how they are cut from recordings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

RATE_HZ = 16000
LONGEST_S = 1.28
_FADE_S, _MARGIN_S, _GRID_S = 0.005, 0.01, 0.02
_TRIM_DB, _FAINT_DB = -50.0, -30.0
_PEAK_DBFS = (-12.0, -1.0)


class Clip(NamedTuple):
    """A clip `(T,)` at `RATE_HZ`, its captions, its label if it has one, and the file that it was made from."""

    audio: np.ndarray
    captions: tuple[str, ...]
    label: str | None
    path: str


class Credit(NamedTuple):
    """Whose work a file is."""

    path: str
    licence: str
    family: str
    attribution: str
    source: str


class Source(Protocol):
    """A collection of clips; picklable for worker processes."""

    @property
    def name(self) -> str:
        """Name of the collection."""
        ...

    def key(self) -> Any:
        """What the clips are made of, as JSON values."""
        ...

    def groups(self) -> list[str]:
        """The group of each unit (a file, or a drawn sound); units of one group are never in different shards."""
        ...

    def clips(self, unit: int, rng: np.random.Generator) -> Iterator[Clip]:
        """Clips of unit number `unit`; the same for the same `rng`."""
        ...

    def credits(self) -> list[Credit]:
        """Whose work the files are."""
        ...


def windows(x: np.ndarray, most: int = 12, longest_s: float = LONGEST_S) -> list[np.ndarray]:
    """Cut a recording `(T,)` at `RATE_HZ` into its loudest moments, faded where they were cut.

    Silence at both ends is left out. Windows overlap by half at most, and faint ones, 30 dB below the loudest, are
    not taken.

    Returns up to `most` windows, the loudest first; none of silence.
    """
    x = _trimmed(x)
    length = round(longest_s * RATE_HZ)
    if len(x) <= length:
        return [x] if len(x) else []
    grid = round(_GRID_S * RATE_HZ)
    starts = np.append(np.arange(0, len(x) - length, grid), len(x) - length)
    total = np.concatenate([[0.0], np.cumsum(np.square(x, dtype=np.float64))])
    energy = total[starts + length] - total[starts]
    faint, found = energy.max() * 10 ** (_FAINT_DB / 10), list[np.ndarray]()
    while len(found) < most and energy.max() > faint:
        start = int(starts[np.argmax(energy)])
        found.append(faded(x[start : start + length], start > 0, start + length < len(x)))
        energy[np.abs(starts - start) < length // 2] = 0.0
    return found


def faded(x: np.ndarray, begin: bool, end: bool) -> np.ndarray:
    """`x` faded in over 5 ms where its `begin`, faded out where its `end` was cut."""
    ramp = np.linspace(0, 1, round(_FADE_S * RATE_HZ), dtype=np.float32)
    x = x.copy()
    if begin:
        x[: len(ramp)] *= ramp
    if end:
        x[-len(ramp) :] *= ramp[::-1]
    return x


def at_some_level(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Scale a clip to a drawn peak of -12 to -1 dBFS; an offset that is stronger than the sound is taken away first."""
    offset = float(x.mean())
    if abs(offset) > float(x.std()):
        x = x - offset
    peak = float(np.abs(x).max())
    return np.asarray(x * (10 ** (rng.uniform(*_PEAK_DBFS) / 20) / peak), dtype=np.float32)


def _trimmed(x: np.ndarray) -> np.ndarray:
    level = np.abs(x)
    heard = np.flatnonzero(level > max(1e-4, float(level.max(initial=0.0)) * 10 ** (_TRIM_DB / 20)))
    if not len(heard):
        return x[:0]
    margin = round(_MARGIN_S * RATE_HZ)
    return x[max(0, heard[0] - margin) : heard[-1] + 1 + margin]
