"""Classic augmentations of waveforms: a subclass of `Augmentation` each, with its settings and what it does."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from common.config.base import Count, Frozen, NonNegative, PositiveShare, Share

Wave = NDArray[np.float32]

AUGMENTATIONS: dict[str, type[Augmentation]] = {}
"""By name: that of a section in `TrainClassifierConfig`."""


class Clip(NamedTuple):
    """A waveform (T,), the generator of its copies, and waveforms (T',) to lay under it."""

    wave: Wave
    rate_hz: int
    draws: np.random.Generator
    backgrounds: Sequence[Wave] = ()


class Augmentation(Frozen):
    """Settings of an augmentation, and what it does. Every random parameter comes from the clip's generator.

    Subclasses have `strengths`, at least three, weakest first: numbers, or names.
    """

    name: ClassVar[str]
    method: ClassVar[str] = ""
    """Name of its method; empty = `name`."""
    title: ClassVar[str]
    copies: Count = Field(8, description="copies of each clip, made once; ours: fresh ones double the time")

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        AUGMENTATIONS[cls.name] = cls

    @abstractmethod
    def change(self, clip: Clip, strength: Any) -> Wave:
        """One copy (T,) of a clip."""


class Noise(Augmentation):
    """White Gaussian noise; a silent clip stays silent, since it has no signal level."""

    name: ClassVar[str] = "noise"
    title: ClassVar[str] = "Random noise"
    strengths: tuple[float, ...] = Field((20.0, 10.0, 0.0), min_length=3, description="lowest signal-to-noise; ours")
    span_db: NonNegative = Field(10.0, description="each copy's ratio is drawn from [strength, strength + span]; ours")

    def change(self, clip: Clip, strength: float) -> Wave:
        """See `Augmentation`."""
        return add_noise(clip, strength, self.span_db)


class Background(Noise):
    """Clips of the pretraining corpus in place of white noise, as in the paper's second kind of random noise.

    A random one from a random start, looped where it ends. One that is silent there changes nothing.
    """

    name: ClassVar[str] = "background"
    method: ClassVar[str] = "background_noise"
    title: ClassVar[str] = "Corpus background noise"
    clips: Count = Field(64, description="of the corpus's training part, the first ones; ours")

    def change(self, clip: Clip, strength: float) -> Wave:
        """See `Augmentation`."""
        wave, draws = clip.wave, clip.draws
        wanted = _rms(wave) * 10 ** (-(strength + self.span_db * draws.random()) / 20)
        chosen = clip.backgrounds[int(draws.integers(len(clip.backgrounds)))]
        start = draws.integers(len(chosen))
        heard = np.take(chosen, np.arange(start, start + len(wave)), mode="wrap")
        loudness = _rms(heard)
        return wave + np.float32(wanted / loudness) * heard if loudness else wave.copy()


class PitchShift(Augmentation):
    """Pitch shift at constant tempo."""

    name: ClassVar[str] = "pitch_shift"
    title: ClassVar[str] = "Pitch shift"
    strengths: tuple[Annotated[float, Field(gt=0, le=24)], ...] = Field(
        (1.0, 2.0, 4.0), min_length=3, description="largest shift in semitones; audiomentations: 4"
    )

    def change(self, clip: Clip, strength: float) -> Wave:
        """See `Augmentation`."""
        return shift_pitch(clip.wave, clip.rate_hz, clip.draws.uniform(-strength, strength))


class TimeStretch(Augmentation):
    """Time stretch at constant pitch."""

    name: ClassVar[str] = "time_stretch"
    title: ClassVar[str] = "Time stretch"
    strengths: tuple[PositiveShare, ...] = Field(
        (0.05, 0.1, 0.25),
        min_length=3,
        description="rates lie in [1 / (1 + strength), 1 + strength]; audiomentations: 0.8 to 1.25",
    )

    def change(self, clip: Clip, strength: float) -> Wave:
        """See `Augmentation`."""
        return stretch_time(clip.wave, clip.rate_hz, (1 + strength) ** clip.draws.uniform(-1, 1))


class Shift(Augmentation):
    """Circular shift in time."""

    name: ClassVar[str] = "shift"
    title: ClassVar[str] = "Time shift"
    strengths: tuple[PositiveShare, ...] = Field(
        (0.1, 0.25, 0.5), min_length=3, description="largest shift as a share of the clip; audiomentations: 0.5"
    )

    def change(self, clip: Clip, strength: float) -> Wave:
        """See `Augmentation`."""
        return shift_time(clip.wave, clip.rate_hz, clip.draws.uniform(-strength, strength))


class Combination(Frozen):
    """Noise, time stretch, pitch shift and shift, each with a probability; defaults: audiomentations' own example."""

    probability: PositiveShare = Field(0.5, description="of each of the four")
    noise_snr_db: tuple[float, float] | None = Field((5.0, 40.0), description="AddGaussianSNR; null = no noise")
    stretch: Share = Field(0.25, description="rates lie in [1 / (1 + stretch), 1 + stretch]; 0 = none")
    semitones: float = Field(4.0, ge=0, le=12, description="largest shift of pitch; 0 = none")
    shift: Share = Field(0.5, description="largest shift in time as a share of the clip; 0 = none")


class Audiomentations(Augmentation):
    """Named combinations of augmentations, one of which is chosen on validation."""

    name: ClassVar[str] = "audiomentations"
    title: ClassVar[str] = "Audiomentations"
    combinations: dict[str, Combination] = Field(
        {
            "gentle": Combination(noise_snr_db=(20.0, 40.0), stretch=0, semitones=0, shift=0.25),
            "usual": Combination(),
            "strong": Combination(probability=0.8, noise_snr_db=(0.0, 30.0), semitones=6.0),
        },
        min_length=3,
        description="ours around the usual one: `gentle` leaves pitch and tempo, which may be what tells the classes",
    )

    @property
    def strengths(self) -> tuple[str, ...]:
        """Names of the combinations."""
        return tuple(self.combinations)

    def change(self, clip: Clip, strength: str) -> Wave:
        """See `Augmentation`."""
        ranges, draws = self.combinations[strength], clip.draws
        # All parameters are drawn, used or not, so that one choice does not shift the next draws.
        used = draws.random(4) < ranges.probability
        ratio, tempo, pitch, place = draws.random(), *draws.uniform(-1, 1, 3)
        wave = clip.wave
        if used[0] and ranges.noise_snr_db is not None:
            least, most = ranges.noise_snr_db
            wave = add_noise(clip, least + (most - least) * ratio, 0.0)
        if used[1] and ranges.stretch:
            wave = stretch_time(wave, clip.rate_hz, (1 + ranges.stretch) ** tempo)
        if used[2] and ranges.semitones:
            wave = shift_pitch(wave, clip.rate_hz, pitch * ranges.semitones)
        return shift_time(wave, clip.rate_hz, place * ranges.shift) if used[3] and ranges.shift else wave


def add_noise(clip: Clip, snr_db: float, span_db: float) -> Wave:
    """Add white noise at a signal-to-noise ratio uniform in [snr_db, snr_db + span_db]."""
    level = _rms(clip.wave) * 10 ** (-(snr_db + span_db * clip.draws.random()) / 20)
    return clip.wave + np.float32(level) * clip.draws.standard_normal(len(clip.wave), dtype=np.float32)


def shift_pitch(wave: Wave, rate_hz: int, semitones: float) -> Wave:
    """Shift the pitch at constant tempo and length."""
    from audiomentations import PitchShift

    return _same_length(PitchShift(min_semitones=semitones, max_semitones=semitones, p=1.0)(wave, rate_hz), wave)


def stretch_time(wave: Wave, rate_hz: int, rate: float) -> Wave:
    """Change the tempo (`rate` above 1 = faster) at constant pitch, cut or padded to the same length."""
    from audiomentations import TimeStretch

    stretch = TimeStretch(min_rate=rate, max_rate=rate, leave_length_unchanged=True, p=1.0)
    return _same_length(stretch(wave, rate_hz), wave)


def shift_time(wave: Wave, rate_hz: int, share: float) -> Wave:
    """Shift circularly in time by `share` of the length, in [-1, 1]."""
    from audiomentations import Shift

    shift = Shift(min_shift=share, max_shift=share, rollover=True, fade_duration=0.0, p=1.0)
    return _same_length(shift(wave, rate_hz), wave)


def _rms(wave: Wave) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))


def _same_length(made: Any, like: Wave) -> Wave:
    made = np.asarray(made, dtype=np.float32)[: len(like)]
    return np.pad(made, (0, len(like) - len(made)))
