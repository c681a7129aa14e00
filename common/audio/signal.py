"""Reading, mixing down, resampling, measuring and writing of audio, for the whole program.

Arrays are float32 in [-1, 1]: `(T,)` mono or `(C, T)`, time last.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from common.audio.file import AudioFile, AudioInfo, open_audio
from common.storage import write_bytes

SILENCE_DBFS = -60.0
FLOOR_DBFS = -120.0
LEVEL_DBFS = -20.0
MAX_GAIN_DB = 60.0
_BLOCK_S = 0.1
_STREAM_FRAMES = 2**16


def read_audio(path: Path, max_duration_s: float | None = None) -> tuple[np.ndarray, AudioInfo]:
    """Audio `(C, T)` float32, full scale = 1, of any format of libsndfile, whatever the suffix, and facts about it.

    Only the loudest window of `max_duration_s` is kept of a longer file; memory does not grow with the file. The facts
    tell the true length of the whole file. Raises AudioError: with reason `missing_file`, `empty_file`, `unreadable`,
    `truncated`, `no_samples` or `nan`.
    """
    with open_audio(path) as file:
        if max_duration_s is None:
            parts = list(file.blocks())
            audio = np.concatenate(parts) if len(parts) > 1 else parts[0]
            frames = len(audio)
        else:
            audio, frames = _read_loudest(file, max(1, round(max_duration_s * file.info.sample_rate_hz)))
        return np.ascontiguousarray(audio.T), replace(file.info, frames=frames)


def read_mono(path: Path, sample_rate_hz: int) -> np.ndarray:
    """Audio of a whole file, mono `(T,)` float32 at `sample_rate_hz`. Raises AudioError: as `read_audio`."""
    audio, info = read_audio(path)
    return resample(to_mono(audio), info.sample_rate_hz, sample_rate_hz)


def _read_loudest(file: AudioFile, length: int) -> tuple[np.ndarray, int]:
    """The window `(length, C)` with most energy, starting at a multiple of the block, and the frames of the file."""
    block = max(1, min(length, round(_BLOCK_S * file.info.sample_rate_hz)))
    span = -(-length // block)
    held = loudest = np.zeros((0, file.info.channels), np.float32)
    total, most, frames, first = np.zeros(1), -1.0, 0, 0
    for part in file.blocks(100 * block):
        held = np.concatenate([held, part])
        frames += len(part)
        power = np.square(part, dtype=np.float64).sum(axis=1)
        energies = np.add.reduceat(power, np.arange(0, len(power), block))
        total = np.concatenate([total[:-1], np.cumsum([total[-1], *energies])])
        starts = np.arange(first, (frames - length) // block + 1)
        if len(starts):
            found = total[np.minimum(starts + span, len(total) - 1)] - total[starts]
            if found.max() > most:
                most, place = found.max(), int(found.argmax()) * block
                loudest = held[place : place + length].copy()
            held = held[len(starts) * block :]
            first += len(starts)
    return (loudest if len(loudest) else held), frames


def to_mono(x: np.ndarray) -> np.ndarray:
    """Mix `(C, T)` or `(T,)` to `(T,)`: the mean of the channels, or where they cancel the loudest one."""
    if x.ndim == 1:
        return x
    if x.shape[0] == 1:
        return x[0]
    mean: np.ndarray = x.mean(axis=0, dtype=np.float32)
    power = np.square(x, dtype=np.float64).mean(axis=1)
    if channels_cancel(float(np.square(mean, dtype=np.float64).mean()), power):
        return np.ascontiguousarray(x[int(power.argmax())])
    return mean


def channels_cancel(mean_power: float, power: np.ndarray) -> bool:
    """Whether the mean of the channels holds under 1 % of their mean power."""
    return len(power) > 1 and mean_power < 0.01 * float(power.mean())


def resample(x: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Resample the last axis (soxr, high quality); the result has round(T * to / from) samples, at least 1."""
    if from_hz == to_hz:
        return x
    length = max(1, round(x.shape[-1] * to_hz / from_hz))
    rows = np.atleast_2d(x).astype(np.float32, copy=False)
    out = np.zeros((rows.shape[0], length), np.float32)
    for row, target in zip(rows, out, strict=True):
        made = soxr.resample(row, from_hz, to_hz, quality="HQ")[:length]
        target[: len(made)] = made
    return out.reshape(*x.shape[:-1], length)


def pcm16(x: np.ndarray) -> np.ndarray:
    """Convert float audio to int16 by rounding; values beyond full scale are clipped."""
    return np.clip(np.rint(x.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)


def write_flac(path: Path, x: np.ndarray, rate: int) -> None:
    """Write `(T,)` or `(C, T)` as 16-bit FLAC, atomically; values beyond full scale are clipped.

    Raises StorageError: the disk is full or not writable.
    """
    # Encoded in memory, because libsndfile reports a full disk as an unspecified error.
    encoded = io.BytesIO()
    soundfile.write(encoded, pcm16(x).T, rate, format="FLAC", subtype="PCM_16")
    write_bytes(path, encoded.getvalue())


def rms_dbfs(x: np.ndarray) -> float:
    """RMS level over all samples in dB relative to full scale (a square wave of 1 has 0 dB); at least -120."""
    power = float(np.square(x, dtype=np.float64).mean()) if x.size else 0.0
    return max(FLOOR_DBFS, 10 * float(np.log10(max(power, 1e-30))))


def loudest_window(x: np.ndarray, length: int) -> np.ndarray:
    """Window of `length` samples with most energy on the last axis (the first of equals); all of a shorter `x`."""
    if x.shape[-1] <= length:
        return x
    power = np.square(x, dtype=np.float64).reshape(-1, x.shape[-1]).sum(axis=0)
    total = np.concatenate([[0.0], np.cumsum(power)])
    start = int(np.argmax(total[length:] - total[:-length]))
    return x[..., start : start + length]


def fixed_windows(x: np.ndarray, length: int) -> np.ndarray:
    """Cut `(T,)` into `(W, length)`: the fewest evenly spaced windows that cover it.

    A shorter clip is one window, zero-padded at the end. Windows of a longer clip overlap a little, so
    that none holds padding.
    """
    if len(x) <= length:
        return np.pad(x, (0, length - len(x)))[None]
    return np.stack([x[start : start + length] for start in fixed_window_starts(len(x), length)])


def fixed_window_starts(total: int, length: int) -> list[int]:
    """Where the windows of `fixed_windows` start in a clip of `total` places."""
    return np.linspace(0, max(0, total - length), -(-total // length)).round().astype(int).tolist()


def is_silent(x: np.ndarray, threshold_dbfs: float = SILENCE_DBFS) -> bool:
    """Whether no sample deviates from the mean by more than `threshold_dbfs`."""
    peak = float(np.abs(x - x.mean(axis=-1, keepdims=True)).max(initial=0.0))
    return peak < 10 ** (threshold_dbfs / 20)


def check_signal(x: np.ndarray, rate: int) -> str:
    """Technical check of `(T,)` audio at `rate` Hz: `ok`, or the first of these reason codes.

    `nan` (not finite), `silence` (nothing above -60 dBFS), `dc` (an offset above 0.05 and above the
    level of the rest), `clipping` (over 0.5 % of the samples lie on flat tops of 3 or more near
    full scale), `clicks` (3 or more lone samples per second far off a straight line).
    """
    if not np.isfinite(x).all():
        return "nan"
    if is_silent(x):
        return "silence"
    offset = abs(float(x.mean()))
    if offset > 0.05 and offset > float(x.std()):
        return "dc"
    if _flat_share(x) > 0.005:
        return "clipping"
    if _click_count(x) >= 3 * max(1.0, len(x) / rate):
        return "clicks"
    return "ok"


def _flat_share(x: np.ndarray) -> float:
    peak = float(np.abs(x).max())
    if peak < 0.5 or len(x) < 3:
        return 0.0
    top = np.abs(x[1:-1]) > 0.98 * peak
    # A smooth 20 Hz tone moves more than this between samples, even at its crest and at 48 kHz.
    near = 1e-6 * peak
    flat = (np.abs(x[1:-1] - x[:-2]) <= near) & (np.abs(x[1:-1] - x[2:]) <= near)
    return float((top & flat).mean())


def _click_count(x: np.ndarray) -> int:
    """Count samples 0.3 or more off the line between their neighbours, ten times as far as any within eight samples."""
    if len(x) < 32:
        return 0
    off = np.abs(x[1:-1] - 0.5 * (x[:-2] + x[2:]))
    places = np.flatnonzero(off[10:-10] > 0.3) + 10
    if len(places) > len(x) // 20:
        return 0
    around = np.concatenate([np.arange(-9, -1), np.arange(2, 10)])
    alone = off[places] > 10 * off[places[:, None] + around].max(axis=1, initial=0.0)
    # A lone sample shifts its neighbours by half as much, the edge of a square wave by as much.
    alone &= off[places] > 1.4 * np.maximum(off[places - 1], off[places + 1])
    return int(alone.sum())


def levelled(x: np.ndarray) -> np.ndarray:
    """Scale to an RMS level of `LEVEL_DBFS`, by `MAX_GAIN_DB` at most, so that gain tells no two clips apart."""
    gain_db = min(LEVEL_DBFS - rms_dbfs(x), MAX_GAIN_DB)
    return np.asarray(x * 10 ** (gain_db / 20), dtype=np.float32)


def match_loudness(x: np.ndarray, target_rms_dbfs: float, peak_limit_dbfs: float) -> tuple[np.ndarray, float]:
    """Apply one gain that brings `x` to `target_rms_dbfs`, or as near below it as the peak limit allows.

    Returns the scaled audio (same shape, float32) and the gain in dB; a silent `x` is returned unchanged with gain 0.
    """
    level, peak = rms_dbfs(x), float(np.abs(x).max(initial=0.0))
    if level <= FLOOR_DBFS or peak == 0:
        return x, 0.0
    gain_db = min(target_rms_dbfs - level, peak_limit_dbfs - 20 * float(np.log10(peak)))
    return (x * np.float32(10 ** (gain_db / 20))).astype(np.float32, copy=False), gain_db


def spectra(x: np.ndarray, size: int, hop: int) -> np.ndarray:
    """Spectra (frames, size / 2 + 1) in double precision of `(T,)` under a Hann window; a short `x` gets zeros."""
    padded = np.pad(x.astype(np.float64), (0, max(0, size - len(x))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    return np.fft.rfft(frames * np.hanning(size))


class MonoStream(NamedTuple):
    """Mono audio of a file: `(T,)` float32 blocks of at least one sample, once."""

    samples: int
    blocks: Iterator[np.ndarray]


@contextmanager
def open_mono(path: Path, rate_hz: int) -> Iterator[MonoStream]:
    """Open a file as `to_mono` and `resample` of the whole of it give it, while memory holds one block.

    The file is decoded twice: first for its length, and for what its channels have in common.

    Raises AudioError: as by `read_audio`.
    """
    with open_audio(path) as file:
        frames, loudest = _survey(file)
        samples = max(1, round(frames * rate_hz / file.info.sample_rate_hz))
        mono = (_mixed(block, loudest) for block in file.blocks(_STREAM_FRAMES))
        yield MonoStream(samples, _of_length(_resampled(mono, file.info.sample_rate_hz, rate_hz), samples))


def _survey(file: AudioFile) -> tuple[int, int | None]:
    """Length of the file, and the channel to be used where the channels cancel each other."""
    frames, power, mean_power = 0, np.zeros(file.info.channels), 0.0
    for block in file.blocks(_STREAM_FRAMES):
        frames += len(block)
        power += np.square(block, dtype=np.float64).sum(axis=0)
        mean_power += float(np.square(_mixed(block, None), dtype=np.float64).sum())
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
