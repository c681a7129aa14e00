"""Acoustic consistency of synthetic and real clips, by statistics of spectrum, level and pitch.

Statistics are taken over the frames within 40 dB of a clip's loudest frame, so that silence around a sound does not
count.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from common.contracts.report import Acoustics, AcousticSet
from common.records.audio_folder import load_clip
from common.records.clips import GoldClip, SyntheticClip
from components.report.inputs import Inputs

Floats = NDArray[np.floating[Any]]

STATISTICS = {
    "centroid_hz": "Spectral centroid, Hz",
    "bandwidth_hz": "Spectral bandwidth, Hz",
    "flatness": "Spectral flatness",
    "flux": "Spectral flux",
    "level_db": "Level, dB",
    "crossings_hz": "Zero crossings per second",
    "pitch_hz": "Pitch, Hz",
    "voiced_share": "Share with a pitch",
}
FEW = 30
"""Sets of fewer clips are marked as small."""
REFERENCE = "other real clips"

_FRAME_S, _ACTIVE = 0.064, 1e-4
_PITCHES_HZ, _VOICED = (60.0, 1000.0), 0.5


def clip_statistics(x: Floats, rate: int) -> dict[str, float]:
    """Statistics of one clip.

    Args:
        x: `(T,)` mono in [-1, 1].
        rate: sample rate in Hz.

    Returns values by the names of `STATISTICS`; empty for a silent clip. `flatness` is the ratio of geometric to
    arithmetic mean of the power spectrum: near 0 for a tone and exp(-0.577) for white noise, whose periodogram is
    exponentially distributed. `flux` is the distance of neighbouring magnitude spectra of unit length. `pitch_hz` (60
    to 1000 Hz, median, by autocorrelation) is absent where no frame has a pitch.
    """
    size = max(64, round(_FRAME_S * rate))
    padded = np.pad(np.asarray(x, np.float64), (0, max(0, size - len(x))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: size // 2]
    energy = (frames**2).mean(axis=1)
    if not energy.max() > 0:
        return {}
    frames, energy = frames[energy >= _ACTIVE * energy.max()], energy[energy >= _ACTIVE * energy.max()]
    magnitude = np.abs(np.fft.rfft(frames * np.hanning(frames.shape[1]), axis=1))[:, 1:] + 1e-12
    power = magnitude**2
    hz = np.fft.rfftfreq(frames.shape[1], 1 / rate)[1:]
    share = power / power.sum(axis=1, keepdims=True)
    centroid = share @ hz
    spread = np.sqrt((share * (hz - centroid[:, None]) ** 2).sum(axis=1))
    unit = magnitude / np.linalg.norm(magnitude, axis=1, keepdims=True)
    pitches = _pitches(frames, rate)
    found = {
        "centroid_hz": centroid.mean(),
        "bandwidth_hz": spread.mean(),
        "flatness": (np.exp(np.log(power).mean(axis=1)) / power.mean(axis=1)).mean(),
        "flux": np.linalg.norm(np.diff(unit, axis=0), axis=1).mean() if len(unit) > 1 else 0.0,
        "level_db": 10 * np.log10(energy.mean()),
        "crossings_hz": (np.diff(np.signbit(frames), axis=1).mean() * rate),
        "voiced_share": len(pitches) / len(frames),
    }
    if len(pitches):
        found["pitch_hz"] = np.median(pitches)
    return {name: float(value) for name, value in found.items()}


def compare(real: Sequence[Mapping[str, float]], other: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Compare two sets of clips in each statistic.

    Returns by statistic: `real` and `mean`, the means of the two sets; `shift`, the difference of means in pooled
    standard deviations; `ks`, the largest difference of the distribution functions (Kolmogorov-Smirnov, 0 to 1). A
    statistic that fewer than two clips of either set have is absent.
    """
    found = {}
    for name in STATISTICS:
        sides = [np.array([row[name] for row in rows if name in row]) for rows in (real, other)]
        if min(map(len, sides)) < 2:
            continue
        apart = float(sides[1].mean() - sides[0].mean())
        pooled = float(np.sqrt((sides[0].var(ddof=1) + sides[1].var(ddof=1)) / 2))
        found[name] = {
            "real": float(sides[0].mean()),
            "mean": float(sides[1].mean()),
            "shift": apart / pooled if pooled > 0 else 0.0,
            "ks": float(ks_2samp(*sides).statistic),
        }
    return found


def acoustics(inputs: Inputs, most: int) -> Acoustics:
    """Compare the real training clips of all replicates with each synthetic set and with real validation clips.

    Args:
        most: largest number of measured clips per set, drawn by a hash of the clip id.
    """
    gold = inputs.gold
    train = {clip.clip_id: clip for replicate in gold.replicates for clip in gold.train(replicate)}
    held_out = {
        clip.clip_id: clip for replicate in gold.replicates for clip in gold.val(replicate) if clip.clip_id not in train
    }
    sets: dict[str, tuple[str, Sequence[GoldClip | SyntheticClip]]] = {REFERENCE: ("gold", list(held_out.values()))}
    if inputs.vanilla:
        sets["vanilla"] = ("vanilla", inputs.vanilla)
    for recipe in sorted({clip.recipe for clip in inputs.accepted}):
        sets[f"{recipe}, accepted"] = ("accepted", [clip for clip in inputs.accepted if clip.recipe == recipe])
    if len(sets) < 2:
        return Acoustics(real_clips=0, sets={})
    # One sample rate for all sets: a frequency band missing in one set would otherwise dominate the statistics.
    clips: list[GoldClip | SyntheticClip] = [*train.values(), *inputs.vanilla, *inputs.accepted]
    rate = min(clip.sample_rate_hz for clip in clips)

    def measured(folder: str, clips: Iterable[GoldClip | SyntheticClip]) -> list[dict[str, float]]:
        drawn = sorted(clips, key=lambda clip: sha256(clip.clip_id.encode()).hexdigest())[:most]
        found = [clip_statistics(load_clip(inputs.folders[folder], clip, rate), rate) for clip in drawn]
        return [row for row in found if row]

    real, rows = measured("gold", train.values()), {}
    for name, where in sets.items():
        other = measured(*where)
        if found := compare(real, other):
            shift, ks = (float(np.mean([abs(row[key]) for row in found.values()])) for key in ("shift", "ks"))
            rows[name] = AcousticSet(clips=len(other), shift=shift, ks=ks, statistics=found)
    return Acoustics(real_clips=len(real), sets=rows)


def _pitches(frames: Floats, rate: int) -> Floats:
    """Pitch in Hz of the voiced frames: the first high peak of the normalised autocorrelation."""
    size = frames.shape[1]
    least, most = int(rate / _PITCHES_HZ[1]), min(size // 2, int(rate / _PITCHES_HZ[0]) + 1)
    if most - least < 3:
        return np.zeros(0)
    centred = frames - frames.mean(axis=1, keepdims=True)
    product = np.fft.irfft(np.abs(np.fft.rfft(centred, 2 * size, axis=1)) ** 2, axis=1)[:, : most + 1]
    summed = np.pad(np.cumsum(centred**2, axis=1), ((0, 0), (1, 0)))
    lags = np.arange(most + 1)
    head, tail = summed[:, size - lags], summed[:, [size]] - summed[:, lags]
    likeness = product / np.sqrt(np.maximum(head * tail, 1e-24))
    window = likeness[:, least:most]
    top = window.max(axis=1, keepdims=True)
    peaks = (window >= likeness[:, least - 1 : most - 1]) & (window > likeness[:, least + 1 : most + 1])
    good = peaks & (window >= 0.9 * top) & (window > _VOICED)
    rows = np.flatnonzero(good.any(axis=1))
    places = good[rows].argmax(axis=1) + least
    before, at, after = (likeness[rows, places + step] for step in (-1, 0, 1))
    bend = before - 2 * at + after
    shift = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, 1.0), 0.0)
    return np.asarray(rate / (places + shift))
