"""Classic augmentation of waveforms: copies of each clip, made once before training.

The library audiomentations changes pitch, tempo and time. It draws from process-wide generators, so every parameter is
drawn here from a generator of the clip instead.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from common.audio.signal import resample, to_mono
from common.config.classifier import Combination, CopiesConfig, TrainClassifierConfig, Waveform
from common.corpus.shards import Corpus
from common.errors import ConfigError, DataError
from common.runtime.seeding import numpy_generator
from common.storage.hashing import hash_json

Change = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
"""Function from waveform (T,) float32, sample rate in Hz and generator to a waveform (T,) float32."""


def augmented_copies(
    classic: Waveform,
    waveform: np.ndarray,
    sample_rate_hz: int,
    config: TrainClassifierConfig,
    strength: float | str,
    seed: int,
    clip_id: str,
    backgrounds: Sequence[np.ndarray] = (),
) -> list[np.ndarray]:
    """Make augmented copies of a clip.

    Args:
        waveform: (T,) float32.
        strength: strength in the unit of the augmentation's configuration.
        clip_id: seeds the draws too, so that they do not depend on other clips.
        backgrounds: (T,) float32 at the same rate; `background` needs at least one.

    Returns:
        Arrays (T,) float32 of the clip's length.
    """
    settings: CopiesConfig = getattr(config, classic)
    generator = numpy_generator(seed, classic, clip_id)
    change = _change(classic, config, strength, backgrounds)
    with _own_global_draws():
        return [change(waveform, sample_rate_hz, generator) for _ in range(settings.copies)]


def _change(
    classic: Waveform, config: TrainClassifierConfig, strength: float | str, backgrounds: Sequence[np.ndarray]
) -> Change:
    if isinstance(strength, str):
        return _combined(config.audiomentations.combinations[strength])
    if classic == "noise":
        return lambda clip, _, draws: add_noise(clip, strength, config.noise.span_db, draws)
    if classic == "background":
        return lambda clip, _, draws: add_background(clip, backgrounds, strength, config.background.span_db, draws)
    if classic == "pitch_shift":
        return lambda clip, rate, draws: shift_pitch(clip, rate, draws.uniform(-strength, strength))
    if classic == "time_stretch":
        return lambda clip, rate, draws: stretch_time(clip, rate, (1 + strength) ** draws.uniform(-1, 1))
    if classic == "shift":
        return lambda clip, rate, draws: shift_time(clip, rate, draws.uniform(-strength, strength))
    raise ConfigError(f"no change of waveforms is called {classic!r}; this is a fault, please report it")


def _combined(ranges: Combination) -> Change:
    def change(clip: np.ndarray, rate: int, draws: np.random.Generator) -> np.ndarray:
        # All parameters are drawn, used or not, so that one choice does not shift the next draws.
        used = draws.random(4) < ranges.probability
        ratio, tempo, pitch, place = draws.random(), *draws.uniform(-1, 1, 3)
        if used[0] and ranges.noise_snr_db is not None:
            least, most = ranges.noise_snr_db
            clip = add_noise(clip, least + (most - least) * ratio, 0.0, draws)
        if used[1] and ranges.stretch:
            clip = stretch_time(clip, rate, (1 + ranges.stretch) ** tempo)
        if used[2] and ranges.semitones:
            clip = shift_pitch(clip, rate, pitch * ranges.semitones)
        return shift_time(clip, rate, place * ranges.shift) if used[3] and ranges.shift else clip

    return change


def add_noise(waveform: np.ndarray, snr_db: float, span_db: float, draws: np.random.Generator) -> np.ndarray:
    """Add white Gaussian noise at a signal-to-noise ratio uniform in [snr_db, snr_db + span_db].

    A silent clip stays silent, since it has no signal level.
    """
    level = _rms(waveform) * 10 ** (-(snr_db + span_db * draws.random()) / 20)
    return waveform + np.float32(level) * draws.standard_normal(len(waveform), dtype=np.float32)


def add_background(
    waveform: np.ndarray, backgrounds: Sequence[np.ndarray], snr_db: float, span_db: float, draws: np.random.Generator
) -> np.ndarray:
    """Add a random background from a random start, looped where it ends, at a ratio as in `add_noise`.

    A silent clip stays silent, and a silent background excerpt changes nothing.
    """
    level = _rms(waveform) * 10 ** (-(snr_db + span_db * draws.random()) / 20)
    chosen = backgrounds[int(draws.integers(len(backgrounds)))]
    start = draws.integers(len(chosen))
    heard = np.take(chosen, np.arange(start, start + len(waveform)), mode="wrap")
    loudness = _rms(heard)
    return waveform + np.float32(level / loudness) * heard if loudness else waveform.copy()


def _rms(waveform: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))


def shift_pitch(waveform: np.ndarray, sample_rate_hz: int, semitones: float) -> np.ndarray:
    """Shift the pitch at constant tempo and length."""
    from audiomentations import PitchShift

    return _same_length(
        PitchShift(min_semitones=semitones, max_semitones=semitones, p=1.0)(waveform, sample_rate_hz), waveform
    )


def stretch_time(waveform: np.ndarray, sample_rate_hz: int, rate: float) -> np.ndarray:
    """Change the tempo (`rate` above 1 = faster) at constant pitch, cut or padded to the same length."""
    from audiomentations import TimeStretch

    stretch = TimeStretch(min_rate=rate, max_rate=rate, leave_length_unchanged=True, p=1.0)
    return _same_length(stretch(waveform, sample_rate_hz), waveform)


def shift_time(waveform: np.ndarray, sample_rate_hz: int, share: float) -> np.ndarray:
    """Shift circularly in time by `share` of the length, in [-1, 1]."""
    from audiomentations import Shift

    return _same_length(
        Shift(min_shift=share, max_shift=share, rollover=True, fade_duration=0.0, p=1.0)(waveform, sample_rate_hz),
        waveform,
    )


def _same_length(made: np.ndarray, like: np.ndarray) -> np.ndarray:
    made = np.asarray(made, dtype=np.float32)[: len(like)]
    return np.pad(made, (0, len(like) - len(made)))


@contextmanager
def _own_global_draws() -> Iterator[None]:
    """Context that restores Python's and numpy's process-wide generators; audiomentations draws from both."""
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@dataclass(frozen=True)
class Backgrounds:
    """First clips of a corpus's training split; equal when shards and number of clips are."""

    identity: str
    corpus: Path = field(compare=False)
    clips: int

    @classmethod
    def of(cls, corpus: Path, clips: int) -> Backgrounds:
        """Describe the backgrounds of a corpus without reading audio.

        Raises:
            DataError: the manifest has another version.
        """
        shards = [shard.sha256 for shard in Corpus(corpus).shards_of("audio", "train")]
        return cls(hash_json([shards, clips]), corpus, clips)


@lru_cache(maxsize=1)
def load_backgrounds(found: Backgrounds, sample_rate_hz: int) -> tuple[np.ndarray, ...]:
    """Load the backgrounds as waveforms (T,) float32 at `sample_rate_hz`; fewer where the corpus has fewer.

    Raises:
        DataError: the corpus has no audio, or a shard is damaged.
    """
    clips = islice(Corpus(found.corpus).audio("train"), found.clips)
    made = tuple(resample(to_mono(clip.audio), clip.sample_rate_hz, sample_rate_hz) for clip in clips)
    if not made:
        raise DataError(f"{found.corpus} has no training clips to take background noise from; leave the method out")
    return made
