"""Notes of General-MIDI banks: 128 instruments and a drum map, single notes and short figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.audio.signal import is_silent, resample
from common.errors import ConfigError
from contrib.nano.clips import LONGEST_S, RATE_HZ, Clip, Credit, at_some_level, faded, windows
from contrib.nano.wording import name_label, read_table

BANKS = {
    "/usr/share/sounds/sf2/FluidR3_GM.sf2": "Frank Wen, FluidR3 GM (Debian fluid-soundfont-gm)",
    "/usr/share/sounds/sf3/MuseScore_General_Lite.sf3": (
        "S. Christian Collins, Frank Wen, MuseScore General (Debian musescore-general-soundfont-small)"
    ),
}
"""Files of Debian's packages, both under the MIT licence, and their authors."""
_RENDER_HZ = 48000
_DRUM_BANK, _DRUM_KITS = 128, (0, 8, 16, 24, 25, 32, 40)
_DRUM_EVERY = 8
_SOUND_EFFECT = "sound effect"
_FIGURES = {
    "a single note": (0,),
    "a repeated note": (0, 0),
    "two notes going up": (0, 4),
    "two notes going down": (0, -5),
    "three notes going up": (0, 4, 7),
    "three notes going down": (0, -3, -7),
    "a major chord": (0, 4, 7),
    "a minor chord": (0, 3, 7),
    "an octave": (0, 12),
}
_FIGURE_SHARES = (0.56, 0.06, 0.06, 0.06, 0.06, 0.06, 0.05, 0.05, 0.04)
_TOGETHER = ("chord", "octave")


class Instrument(NamedTuple):
    """A program of General MIDI, its family, and its usual pitches."""

    name: str
    family: str
    low: int
    high: int


@dataclass(frozen=True)
class Notes:
    """`count` drawn sounds, every eighth of them a drum, from both banks in turn."""

    count: int
    name: str = "notes"

    def key(self) -> int:
        """Number of sounds."""
        return self.count

    def groups(self) -> list[str]:
        """Each sound is a group of its own."""
        return [str(unit) for unit in range(self.count)]

    def clips(self, unit: int, rng: np.random.Generator) -> Iterator[Clip]:
        """Sound number `unit`; none where the bank is silent at its pitch."""
        bank = list(BANKS)[unit % len(BANKS)]
        duration_s = float(rng.uniform(0.6, LONGEST_S))
        draw = _drum if unit // len(BANKS) % _DRUM_EVERY == _DRUM_EVERY - 1 else _figure
        audio, label, captions = draw(_Player.of(bank), unit // len(BANKS), duration_s, rng)
        for window in [] if is_silent(audio) else windows(audio, most=1):
            yield Clip(at_some_level(window, rng), (str(rng.choice(captions)),), label, bank)

    def credits(self) -> list[Credit]:
        """Authors of the banks."""
        return [Credit(bank, "MIT", "MIT", author, "rendered by tinysoundfont") for bank, author in BANKS.items()]


@cache
def instruments() -> tuple[Instrument, ...]:
    """The 128 programs in their order."""
    table = read_table("general_midi")
    return tuple(
        Instrument(name, family, *table["ranges"].get(name, entry["range"]))
        for family, entry in table["families"].items()
        for name in entry["programs"]
    )


class _Player:
    """An open bank."""

    def __init__(self, bank: str) -> None:
        try:
            import tinysoundfont
        except ImportError as error:
            raise ConfigError(
                f"{error}; install it: pip install --no-deps -r requirements-nano.txt, or NOTES=0"
            ) from error
        if not Path(bank).is_file():
            raise ConfigError(
                f"no bank {bank}; apt-get install fluid-soundfont-gm musescore-general-soundfont-small, or NOTES=0"
            )
        self._synth: Any = tinysoundfont.Synth(samplerate=_RENDER_HZ)
        self._font = self._synth.sfload(bank)

    @classmethod
    @cache
    def of(cls, bank: str) -> _Player:
        """The bank, opened once in a process."""
        return cls(bank)

    def has(self, bank: int, program: int) -> bool:
        """Whether the bank holds a program."""
        return self._synth.sfpreset_name(self._font, bank, program) is not None

    def play(self, bank: int, program: int, notes: list[tuple[float, float, int, int]], length_s: float) -> np.ndarray:
        """Audio `(T,)` at `RATE_HZ` of notes (start in s, end in s, pitch, velocity)."""
        self._synth.sounds_off()
        self._synth.generate(_RENDER_HZ // 5)
        self._synth.program_select(0, self._font, bank, program)
        events = sorted(
            [(start, 1, key, velocity) for start, _, key, velocity in notes]
            + [(end, 0, key, 0) for _, end, key, _ in notes]
        )
        parts = []
        for (at, starts, key, velocity), (until, *_) in pairwise([*events, (length_s, 0, 0, 0)]):
            if starts:
                self._synth.noteon(0, key, velocity)
            else:
                self._synth.noteoff(0, key)
            if frames := max(0, round(until * _RENDER_HZ) - round(at * _RENDER_HZ)):
                stereo = np.frombuffer(self._synth.generate(frames), np.float32)
                parts.append((stereo[0::2] + stereo[1::2]) / 2)
        return faded(resample(np.concatenate(parts), _RENDER_HZ, RATE_HZ), False, True)


def _figure(
    player: _Player, turn: int, duration_s: float, rng: np.random.Generator
) -> tuple[np.ndarray, str, tuple[str, ...]]:
    # Turns that are drums are left out, so that no instrument is skipped.
    program = (turn - turn // _DRUM_EVERY) % len(instruments())
    name, family, low, high = instruments()[program]
    effect = family == _SOUND_EFFECT
    figure = "a single note" if effect else str(rng.choice(list(_FIGURES), p=_FIGURE_SHARES))
    key, velocity = int(rng.integers(low, high + 1)), int(rng.integers(40, 128))
    steps = _FIGURES[figure]
    together = figure.endswith(_TOGETHER)
    # Held for a part of the clip, so that the release is heard.
    each_s = duration_s * (1.0 if effect else float(rng.uniform(0.5, 0.95))) / (1 if together else len(steps))
    starts = [0.0 if together else place * each_s for place in range(len(steps))]
    notes = [(start, start + each_s, key + step, velocity) for start, step in zip(starts, steps, strict=True)]
    audio = player.play(0, program, notes, duration_s)
    if effect:
        return audio, name, (name, *name_label(name))
    pitch = ("low", "middle", "high")[min(2, 3 * (key - low) // (high - low + 1))]
    force = "soft" if velocity < 70 else "loud" if velocity > 110 else ""
    described = figure.replace("a single note", f"a single {pitch} note").replace("notes", f"{pitch} notes")
    captions = (
        f"{name}, {described}",
        f"{name} playing {described}",
        f"{_a(name)} playing {_a(f'{force} {pitch} note'.strip()) if len(steps) == 1 else described}",
        f"someone plays {described} on the {name}",
        f"{family} instrument, {name}",
        f"{name} {pitch} note" if len(steps) == 1 else f"{name}, {figure}",
        *name_label(name),
    )
    return audio, name, captions


def _drum(
    player: _Player, turn: int, duration_s: float, rng: np.random.Generator
) -> tuple[np.ndarray, str, tuple[str, ...]]:
    drums = read_table("general_midi")["drums"]
    key = list(drums)[turn // _DRUM_EVERY % len(drums)]
    name = str(drums[key])
    kit = int(rng.choice([kit for kit in _DRUM_KITS if player.has(_DRUM_BANK, kit)]))
    hits, velocity = int(rng.choice((1, 1, 1, 2, 3, 4))), int(rng.integers(50, 128))
    each_s = duration_s / hits if hits > 1 else duration_s
    notes = [(place * each_s, (place + 0.9) * each_s, key, velocity) for place in range(hits)]
    told = (f"{name} hit", f"a single hit of {_a(name)}") if hits == 1 else (f"{name}, {hits} hits", f"repeated {name}")
    captions = (*told, f"drum kit, {name}", f"percussion, {name}", *name_label(name))
    return player.play(_DRUM_BANK, kit, notes, duration_s), name, captions


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
