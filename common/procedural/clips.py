"""Clips of the procedural corpus: one class in the foreground, a background, and always a noise floor."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter

from common.errors import unknown_name
from common.procedural import synthesis
from common.procedural.synthesis import Signal


class SoundClass(NamedTuple):
    """A class: its source, pitch range, event lengths, and possible tempos."""

    source: Callable[[np.random.Generator, int, int, float], Signal]
    pitch_hz: tuple[float, float]
    event_s: tuple[float, float]
    tempos: tuple[str, ...]


SOUND_CLASSES: dict[str, SoundClass] = {
    "beep": SoundClass(synthesis.beep, (350, 2600), (0.07, 0.3), ("single", "slow", "fast", "continuous")),
    "bell": SoundClass(synthesis.bell, (350, 1500), (0.4, 1.0), ("single", "slow")),
    "bird chirp": SoundClass(synthesis.bird_chirp, (1600, 4800), (0.05, 0.18), ("single", "slow", "fast")),
    "buzzer": SoundClass(synthesis.buzzer, (80, 320), (0.15, 0.5), ("single", "slow", "continuous")),
    "clap": SoundClass(synthesis.clap, (800, 2400), (0.12, 0.25), ("single", "slow", "fast")),
    "dog bark": SoundClass(synthesis.dog_bark, (150, 480), (0.12, 0.28), ("single", "slow")),
    "drum": SoundClass(synthesis.drum, (50, 150), (0.2, 0.45), ("single", "slow", "fast")),
    "engine": SoundClass(synthesis.engine, (24, 100), (1.0, 1.0), ("continuous",)),
    "guitar pluck": SoundClass(synthesis.guitar_pluck, (90, 650), (0.3, 1.0), ("single", "slow")),
    "hi hat": SoundClass(synthesis.hi_hat, (3500, 6000), (0.06, 0.2), ("single", "slow", "fast")),
    "rain": SoundClass(synthesis.rain, (1500, 5000), (1.0, 1.0), ("continuous",)),
    "siren": SoundClass(synthesis.siren, (450, 1300), (1.0, 1.0), ("continuous",)),
    "water drip": SoundClass(synthesis.water_drip, (450, 1600), (0.06, 0.15), ("single", "slow", "fast")),
    "whistle": SoundClass(synthesis.whistle, (700, 2600), (0.35, 0.9), ("single", "slow")),
}

CLASSES: list[str] = sorted(SOUND_CLASSES)
"""Labels of the procedural corpus, sorted."""

BACKGROUNDS: dict[str, Callable[[np.random.Generator, int, int], Signal]] = {
    "hiss": synthesis.hiss,
    "wind": synthesis.wind,
    "rumble": synthesis.rumble,
    "hum": synthesis.hum,
}

_PERIOD_S = {"slow": (0.34, 0.5), "fast": (0.13, 0.22)}
_REGISTERS = ("low", "middle", "high")


class ClipAttributes(NamedTuple):
    """True attributes of a clip, in the keys of `common.procedural.words`.

    `background` is a key of `BACKGROUND_WORDS`, the label of a second quiet event, or None.
    """

    label: str
    pitch: str
    tempo: str
    loudness: str
    texture: str
    background: str | None


class ProceduralClip(NamedTuple):
    """Audio `(T,)` float32 in [-1, 1] and its true attributes."""

    audio: np.ndarray
    attributes: ClipAttributes


def render_clip(label: str, rng: np.random.Generator, duration_s: float, rate: int) -> ProceduralClip:
    """Render a clip of `label` and return it with its attributes.

    The noise floor lies 12 to 40 dB below the foreground (RMS), because models trained on digital silence
    fail on any recording.

    Raises ConfigError: there is no class `label`.
    """
    n = round(duration_s * rate)
    foreground, pitch, tempo = _foreground(label, rng, n, rate)
    texture = str(rng.choice(["dull", "plain", "plain", "bright"]))
    foreground = _tilt(foreground, texture)
    foreground /= _rms(foreground)
    background, name = _background(label, rng, n, rate)
    mix = foreground + background + _noise(rng, n) * 10 ** (-rng.uniform(12, 40) / 20)
    loudness = str(rng.choice(["quiet", "normal", "normal", "loud"]))
    levels_dbfs = {"quiet": rng.uniform(-24, -18), "normal": rng.uniform(-14, -6), "loud": rng.uniform(-3, -0.5)}
    audio = (mix * (10 ** (levels_dbfs[loudness] / 20) / np.abs(mix).max())).astype(np.float32)
    return ProceduralClip(audio, ClipAttributes(label, pitch, tempo, loudness, texture, name))


def _foreground(label: str, rng: np.random.Generator, n: int, rate: int) -> tuple[Signal, str, str]:
    """Events `(n,)` of a class, its pitch register and its tempo."""
    if label not in SOUND_CLASSES:
        raise unknown_name("procedural class", label, SOUND_CLASSES)
    kind = SOUND_CLASSES[label]
    register = rng.uniform()
    pitch_hz = kind.pitch_hz[0] * (kind.pitch_hz[1] / kind.pitch_hz[0]) ** register
    tempo = str(rng.choice(list(kind.tempos)))
    if tempo == "continuous":
        return kind.source(rng, n, rate, pitch_hz), _REGISTERS[int(register * 3)], tempo
    length = min(n, max(16, round(rng.uniform(*kind.event_s) * rate)))
    if tempo == "single":
        onsets = [int(rng.integers(0, max(1, n - length // 2)))]
    else:
        period = round(rng.uniform(*_PERIOD_S[tempo]) * rate)
        length = min(length, round(1.2 * period))
        onsets = list(range(int(rng.integers(0, max(1, period // 2))), n, period))
    event = kind.source(rng, length, rate, pitch_hz)
    x = np.zeros(n + length)
    for onset in onsets:
        x[onset : onset + length] += event * rng.uniform(0.75, 1.0)
    return x[:n], _REGISTERS[int(register * 3)], tempo


def _background(label: str, rng: np.random.Generator, n: int, rate: int) -> tuple[Signal, str | None]:
    """Quiet background for a foreground of RMS 1, and its name; often none."""
    choice = rng.uniform()
    if choice < 0.4:
        return np.zeros(n), None
    level = 10 ** (-rng.uniform(10, 20) / 20)
    if choice < 0.8:
        name = str(rng.choice(list(BACKGROUNDS)))
        x = BACKGROUNDS[name](rng, n, rate)
    else:
        name = str(rng.choice([other for other in CLASSES if other != label]))
        x = _foreground(name, rng, n, rate)[0]
    return x * (level / _rms(x)), name


def _noise(rng: np.random.Generator, n: int) -> Signal:
    """Noise of a random colour between white and brown-like, RMS 1."""
    white = rng.standard_normal(n)
    x = lfilter([1.0], [1.0, -rng.uniform(0.0, 0.95)], white)
    return x / _rms(x)


def _tilt(x: Signal, texture: str) -> Signal:
    if texture == "dull":
        return lfilter([0.45], [1.0, -0.55], x)
    if texture == "bright":
        return lfilter([1.0, -0.7], [1.0], x)
    return x


def _rms(x: Signal) -> float:
    return max(1e-9, float(np.sqrt(np.mean(x**2))))
