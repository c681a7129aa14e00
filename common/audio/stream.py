"""Mono audio at any rate from files of any length, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from common.audio.file import AudioError, AudioFile, open_audio
from common.audio.signal import channels_cancel

_BLOCK_FRAMES = 2**16


@dataclass(frozen=True)
class MonoStream:
    """Mono audio of a file.

    Attributes:
        blocks: `(T,)` float32 blocks of at least one sample, once.
    """

    samples: int
    blocks: Iterator[np.ndarray]


@contextmanager
def open_mono(path: Path, rate_hz: int) -> Iterator[MonoStream]:
    """Open a file as `to_mono` and `resample` of the whole of it give it, while memory holds one block.

    The file is decoded twice: first for its length, and for what its channels have in common.

    Raises AudioError: as by `read_audio`.
    """
    with open_audio(path) as file:
        frames, loudest = _survey(path, file)
        samples = max(1, round(frames * rate_hz / file.info.sample_rate_hz))
        mono = (_mixed(block, loudest) for block in file.blocks(_BLOCK_FRAMES))
        yield MonoStream(samples, _of_length(_resampled(mono, file.info.sample_rate_hz, rate_hz), samples))


def _survey(path: Path, file: AudioFile) -> tuple[int, int | None]:
    """Length of the file, and the channel to be used where the channels cancel each other."""
    frames, power, mean_power = 0, np.zeros(file.info.channels), 0.0
    for block in file.blocks(_BLOCK_FRAMES):
        if not np.isfinite(block).all():
            raise AudioError("nan", f"{path}: samples that are not finite numbers; export the file again")
        frames += len(block)
        power += np.square(block, dtype=np.float64).sum(axis=0)
        mean_power += float(np.square(_mixed(block, None), dtype=np.float64).sum())
    if not frames:
        raise AudioError("no_samples", f"{path}: holds no samples; replace or remove the file")
    return frames, int(power.argmax()) if channels_cancel(mean_power, power) else None


def _mixed(block: np.ndarray, loudest: int | None) -> np.ndarray:
    """`(n, C)` as `(n,)`."""
    if block.shape[1] == 1:
        return block[:, 0]
    if loudest is not None:
        return np.ascontiguousarray(block[:, loudest])
    mean: np.ndarray = np.ascontiguousarray(block.T).mean(axis=0, dtype=np.float32)
    return mean


def _resampled(blocks: Iterator[np.ndarray], from_hz: int, to_hz: int) -> Iterator[np.ndarray]:
    if from_hz == to_hz:
        yield from blocks
        return
    resampler = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def _of_length(blocks: Iterator[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """The blocks that hold anything, cut to `samples` in all, or filled with zeros."""
    for block in blocks:
        kept = block[:samples]
        if len(kept):
            yield kept
        samples -= len(kept)
    if samples:
        yield np.zeros(samples, np.float32)
