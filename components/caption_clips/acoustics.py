"""Acoustic measurements of a clip, and their wording as a caption."""

from typing import Literal, NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.signal import find_peaks, stft

from common.procedural import words
from common.records.clips import GoldClip

FRAME_S = 0.01
"""Length of a level frame in seconds."""

LOUD_FRAMES = 5
"""Frames at or above the loud level: 50 ms at any length of the clip; a percentile would miss one short event."""

QUIET_PEAK_DBFS, LOUD_PEAK_DBFS = -16.0, -4.0
LOW_PITCH_HZ, HIGH_PITCH_HZ = 300.0, 1200.0
DULL_CENTROID_HZ, BRIGHT_CENTROID_HZ = 900.0, 3000.0
FAST_ONSETS_PER_S = 4.0
CONTINUOUS_SHARE, CONTINUOUS_SNR_DB, ACTIVE_BELOW_LOUD_DB = 0.85, 9.0, 15.0
AUDIBLE_BACKGROUND_SNR_DB = 35.0
RUMBLE_HZ, WIND_HZ, HUM_TONE_SHARE = 350.0, 1000.0, 0.6

Signal = np.ndarray

Background = Literal["hiss", "wind", "rumble", "hum"]


class Acoustics(NamedTuple):
    """Measurements of a clip.

    Attributes:
        pitch_hz: frequency of the strongest spectral peak of the loud part.
        centroid_hz: spectral centroid of the loud part, by power above the background.
        onsets: number of sudden rises of the level.
        onsets_per_s: rate between the first and the last onset; 0 with fewer than two.
        active_share: share of 10 ms frames nearer to the loud than to the quiet level, at most 15 dB below the loud.
        snr_db: loud level over quiet level (10th percentile); small for continuous sounds.
        background: character of the quiet part; None if it is too quiet to be heard, or cannot be separated
            from the sound itself.
    """

    peak_dbfs: float
    pitch_hz: float
    centroid_hz: float
    onsets: int
    onsets_per_s: float
    active_share: float
    snr_db: float
    background: Background | None


def measure(audio: Signal, sample_rate_hz: int) -> Acoustics:
    """Measure a clip, `(T,)` float in [-1, 1]."""
    x = np.asarray(audio, dtype=np.float64)
    level_db = _levels(x, sample_rate_hz)
    loud_db = float(np.sort(level_db)[-max(1, min(LOUD_FRAMES, len(level_db) // 10))])
    quiet_db = float(np.percentile(level_db, 10))
    active = level_db > loud_db - min(ACTIVE_BELOW_LOUD_DB, (loud_db - quiet_db) / 2)
    onsets = _onsets(level_db, loud_db, quiet_db)
    spectrum, frequencies, loud, quiet = _spectra(x, sample_rate_hz)
    above = np.maximum(loud - quiet, 0.0) if loud.sum() > 2 * quiet.sum() else loud
    snr_db = loud_db - quiet_db
    separable = CONTINUOUS_SNR_DB < snr_db < AUDIBLE_BACKGROUND_SNR_DB and float(active.mean()) < CONTINUOUS_SHARE
    return Acoustics(
        peak_dbfs=20 * float(np.log10(max(1e-6, float(np.abs(x).max(initial=0.0))))),
        pitch_hz=float(frequencies[int(np.argmax(above * (frequencies >= 40)))]),
        centroid_hz=float((above * frequencies).sum() / max(1e-20, float(above.sum()))),
        onsets=len(onsets),
        onsets_per_s=float((len(onsets) - 1) / (FRAME_S * (onsets[-1] - onsets[0]))) if len(onsets) > 1 else 0.0,
        active_share=float(active.mean()),
        snr_db=snr_db,
        background=_background(quiet, frequencies) if separable and spectrum else None,
    )


def describe(label: str, found: Acoustics) -> str:
    """Caption from label and measurements; deterministic."""
    loudness = _step(found.peak_dbfs, QUIET_PEAK_DBFS, LOUD_PEAK_DBFS, ("quiet", "normal", "loud"))
    texture = _step(found.centroid_hz, DULL_CENTROID_HZ, BRIGHT_CENTROID_HZ, ("dull", "plain", "bright"))
    pitch = _step(found.pitch_hz, LOW_PITCH_HZ, HIGH_PITCH_HZ, ("low", "middle", "high"))
    named = [(words.LOUDNESS_WORDS, loudness), (words.TEXTURE_WORDS, texture), (words.PITCH_WORDS, pitch)]
    adjectives = [_first(table, key) for table, key in named]
    described = " ".join([*[word for word in adjectives if word], label])
    article = "an" if described.startswith(tuple("aeiou")) else "a"
    parts = [f"{article} {described}", _first(words.TEMPO_WORDS, _tempo(found))]
    if found.background:
        parts.append(words.BACKGROUND_PHRASES[0].format(_first(words.BACKGROUND_WORDS, found.background)))
    return " ".join(parts)


def _first(table: dict[str, tuple[str, ...]], key: str) -> str:
    return table[key][0] if table[key] else ""


def _step(value: float, low: float, high: float, names: tuple[str, str, str]) -> str:
    return names[0] if value < low else names[2] if value > high else names[1]


def _tempo(found: Acoustics) -> str:
    if found.active_share >= CONTINUOUS_SHARE or found.snr_db <= CONTINUOUS_SNR_DB:
        return "continuous"
    if found.onsets < 2:
        return "single"
    return "fast" if found.onsets_per_s >= FAST_ONSETS_PER_S else "slow"


def _levels(x: Signal, rate: int) -> Signal:
    """RMS level per 10 ms frame in dBFS, at least -120; averaged over 50 ms, so that a rough sound is one sound."""
    size = max(1, round(FRAME_S * rate))
    count = max(1, len(x) // size)
    frames = np.resize(x, count * size) if len(x) < size else x[: count * size]
    power = uniform_filter1d(np.mean(frames.reshape(count, size) ** 2, axis=1), LOUD_FRAMES, mode="nearest")
    return 10 * np.log10(np.maximum(power, 1e-12))


def _onsets(level_db: Signal, loud_db: float, quiet_db: float) -> Signal:
    """Onset frames `(K,)`: the level has risen within 50 ms to near the loudest.

    The rise must be at least 6 dB and a third of the range from quiet to loud, so that noise has no onsets.
    """
    before = np.minimum(_delayed(level_db, 5), _delayed(level_db, 3))
    near_loud = level_db > loud_db - min(ACTIVE_BELOW_LOUD_DB, (loud_db - quiet_db) / 2)
    rise = np.where(near_loud, level_db - np.maximum(before, quiet_db), 0.0)
    height = max(6.0, (loud_db - quiet_db) / 3)
    peaks, _ = find_peaks(np.concatenate([[0.0], rise, [0.0]]), height=height, distance=6)
    return peaks - 1


def _delayed(level_db: Signal, frames: int) -> Signal:
    """Levels delayed by `frames`; silence before the clip."""
    return np.concatenate([np.full(frames, -120.0), level_db])[: len(level_db)]


def _spectra(x: Signal, rate: int) -> tuple[bool, Signal, Signal, Signal]:
    """Whether enough frames separate loud and quiet parts, frequencies `(F,)`, power of either part `(F,)`."""
    size = min(1024, len(x))
    frequencies, _, transform = stft(x, rate, nperseg=size, noverlap=size // 2, boundary=None, padded=False)
    power = np.abs(transform) ** 2
    total = power.sum(axis=0)
    loud = power[:, total >= np.percentile(total, 75)].mean(axis=1)
    quiet = power[:, total <= np.percentile(total, 10)].mean(axis=1)
    return power.shape[1] > 3, frequencies, loud, quiet


def _background(quiet: Signal, frequencies: Signal) -> Background:
    """Name of the background, from the frequency that halves its power; `hum` if one low tone holds most of it."""
    total = max(1e-20, float(quiet.sum()))
    half_hz = float(frequencies[int(np.searchsorted(np.cumsum(quiet) / total, 0.5))])
    if half_hz < RUMBLE_HZ:
        peak = int(np.argmax(quiet))
        tone = float(quiet[max(0, peak - 2) : peak + 3].sum())
        return "hum" if tone > HUM_TONE_SHARE * total else "rumble"
    return "wind" if half_hz < WIND_HZ else "hiss"


class Recording(NamedTuple):
    """A gold clip with its audio `(T,)`, float32 in [-1, 1] at the captioner's rate."""

    clip: GoldClip
    audio: Signal
