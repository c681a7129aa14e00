"""Words spoken by the synthetic voices of espeak-ng and flite."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from common.audio.signal import is_silent, read_mono
from common.errors import ConfigError, DataError
from contrib.nano.clips import RATE_HZ, Clip, Credit, at_some_level, windows
from contrib.nano.wording import read_table, word_word

_OFTEN = 5
_FLITE_EVERY = 6
_CREDITS = {
    "espeak-ng": ("generated with espeak-ng (GPL-3+ program)", "synthetic speech"),
    "flite": ("generated with flite (BSD-like voices)", "synthetic speech; voices by Carnegie Mellon University"),
}


@dataclass(frozen=True)
class Spoken:
    """`count` drawn words, every sixth of them by flite."""

    count: int
    name: str = "spoken"

    def key(self) -> int:
        """Number of words."""
        return self.count

    def groups(self) -> list[str]:
        """Each word is a group of its own."""
        return [str(unit) for unit in range(self.count)]

    def clips(self, unit: int, rng: np.random.Generator) -> Iterator[Clip]:
        """Word number `unit`."""
        words = _vocabulary()
        word = words[int(rng.integers(len(words)))]
        engine = "flite" if unit % _FLITE_EVERY == 0 else "espeak-ng"
        audio, speaker = (_flite if engine == "flite" else _espeak)(word, rng)
        wording = word_word(word, speaker).shuffled(rng)
        for window in [] if is_silent(audio) else windows(audio, most=1):
            yield Clip(at_some_level(window, rng), wording.captions(int(rng.integers(2)), 1), wording.label, engine)

    def credits(self) -> list[Credit]:
        """The programs."""
        return [Credit(engine, licence, "generated", by, engine) for engine, (licence, by) in _CREDITS.items()]


@cache
def _vocabulary() -> tuple[str, ...]:
    table = read_table("words")
    return (*table["words"].split(), *(table["often"].split() * _OFTEN))


def _speaker(engine: str, rng: np.random.Generator) -> tuple[str, str]:
    """A voice, and who is heard in it."""
    voices = read_table("words")["voices"][engine]
    heard = [(voice, who) for kind, who in (("men", "man"), ("women", "woman")) for voice in voices[kind]]
    heard += [(voice, "person") for voice in voices.get("others", ())]
    return heard[int(rng.integers(len(heard)))]


def _espeak(word: str, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    accent = str(rng.choice(read_table("words")["voices"]["espeak-ng"]["accents"]))
    voice, who = _speaker("espeak-ng", rng)
    speed, pitch = int(rng.integers(110, 200)), int(rng.integers(20, 85))
    return _said(["espeak-ng", "-v", f"{accent}+{voice}", "-s", str(speed), "-p", str(pitch), "-w", "{}", word]), who


def _flite(word: str, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    voice, who = _speaker("flite", rng)
    stretch = f"duration_stretch={rng.uniform(0.8, 1.4):.2f}"
    return _said(["flite", "-voice", voice, "--setf", stretch, "-t", word, "-o", "{}"]), who


def _said(command: list[str]) -> np.ndarray:
    """Audio `(T,)` at `RATE_HZ` that a program writes to the file `{}`."""
    with tempfile.TemporaryDirectory(prefix="synthio-word-") as folder:
        file = Path(folder) / "word.wav"
        try:
            subprocess.run([part.replace("{}", str(file)) for part in command], check=True, capture_output=True)
        except FileNotFoundError as error:
            raise ConfigError(f"{command[0]} is not installed; apt-get install espeak-ng flite, or WORDS=0") from error
        except subprocess.CalledProcessError as error:
            raise DataError(f"{' '.join(command)} failed: {error.stderr.decode(errors='replace').strip()}") from error
        return read_mono(file, RATE_HZ)
