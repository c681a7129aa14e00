from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
from scipy.signal import correlate

from common.config.augmentations import (
    AUGMENTATIONS,
    Audiomentations,
    Background,
    Noise,
    shift_pitch,
    shift_time,
    stretch_time,
)
from components.train_classifier.waveform import augmented_copies

RATE_HZ = 16000
BACKGROUNDS = [np.random.default_rng(i).standard_normal(n).astype(np.float32) for i, n in enumerate((3000, 20000))]


def tone(hz: float = 440.0, duration_s: float = 1.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(int(RATE_HZ * duration_s)) / RATE_HZ)).astype(np.float32)


def pitch(waveform: np.ndarray) -> float:
    """Of the strongest partial, in Hz."""
    middle = waveform[len(waveform) // 4 : -len(waveform) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 2**17))
    return float(spectrum.argmax() * RATE_HZ / 2**17)


def noisy(clip: np.ndarray, copies: int, snr_db: float, span_db: float, clip_id: str) -> list[np.ndarray]:
    return augmented_copies(Noise(copies=copies, span_db=span_db), clip, RATE_HZ, snr_db, 1, clip_id)


def test_noise_has_the_ratio_asked_for_and_depends_on_nothing_else() -> None:
    clip = tone()
    copies = noisy(clip, 20, 10.0, 6.0, "x")
    ratios = [10 * np.log10(np.mean(clip**2) / np.mean((copy - clip) ** 2)) for copy in copies]
    assert min(ratios) > 9.7
    assert max(ratios) < 16.3
    assert max(ratios) - min(ratios) > 2
    np.testing.assert_array_equal(copies[3], noisy(clip, 4, 10.0, 6.0, "x")[3])
    assert (copies[0] != noisy(clip, 1, 10.0, 6.0, "y")[0]).any()
    silent = np.zeros(100, np.float32)
    np.testing.assert_array_equal(noisy(silent, 1, 0.0, 0.0, "x")[0], silent)


def test_background_noise_has_the_ratio_asked_for_and_is_a_piece_of_a_background() -> None:
    clip, settings = tone(), Background(copies=20, span_db=6.0)
    added = [copy - clip for copy in augmented_copies(settings, clip, RATE_HZ, 10.0, 1, "x", BACKGROUNDS)]
    ratios = [10 * np.log10(np.mean(clip**2) / np.mean(noise**2)) for noise in added]
    assert min(ratios) > 9.9 and max(ratios) < 16.1 and max(ratios) - min(ratios) > 2
    around = [np.resize(background, 2 * len(clip) + len(background)) for background in BACKGROUNDS]
    for noise in added:
        assert max(
            np.abs(correlate(piece, noise, "valid", "fft")).max() / np.linalg.norm(noise) for piece in around
        ) > (0.95 * min(np.linalg.norm(piece[: len(clip)]) for piece in around))
    silent = np.zeros(100, np.float32)
    for one, other in ((silent, BACKGROUNDS), (clip[:100], [silent])):
        made = augmented_copies(settings, one, RATE_HZ, 0.0, 1, "x", other)
        assert all((copy == one).all() for copy in made)


def test_a_combination_holds_to_its_ranges() -> None:
    clip = tone()
    one = {"probability": 1.0, "noise_snr_db": None, "stretch": 0, "semitones": 0, "shift": 0}
    ranges = {
        "nothing": one,
        "shift": {**one, "shift": 0.25},
        "noise": {**one, "noise_snr_db": (12.0, 12.0)},
        "pitch": {**one, "semitones": 4.0},
    }
    settings = Audiomentations.model_validate({"combinations": ranges, "copies": 6})
    made = {name: augmented_copies(settings, clip, RATE_HZ, name, 1, "x") for name in ranges}
    assert all((copy == clip).all() for copy in made["nothing"])
    assert all(np.sort(copy) == pytest.approx(np.sort(clip)) for copy in made["shift"])
    for copy in made["noise"]:
        assert 10 * np.log10(np.mean(clip**2) / np.mean((copy - clip) ** 2)) == pytest.approx(12, abs=0.3)
    heard = [12 * np.log2(pitch(copy) / 440) for copy in made["pitch"]]
    assert max(map(abs, heard)) < 4.1 and max(heard) - min(heard) > 1


@pytest.mark.parametrize("semitones", [-4.0, 2.0, 12.0])
def test_a_pitch_shift_moves_a_tone_by_its_semitones(semitones: float) -> None:
    shifted = shift_pitch(tone(), RATE_HZ, semitones)
    assert pitch(shifted) == pytest.approx(440 * 2 ** (semitones / 12), rel=0.005)
    assert len(shifted) == RATE_HZ


@pytest.mark.parametrize("rate", [0.8, 1.25])
def test_a_time_stretch_moves_an_onset_and_keeps_the_pitch(rate: float) -> None:
    clip = tone(duration_s=2)
    clip[: RATE_HZ // 2] = 0
    made = stretch_time(clip, RATE_HZ, rate)
    onset = float(np.argmax(np.abs(made) > 0.1) / RATE_HZ)
    assert onset == pytest.approx(0.5 / rate, abs=0.05)
    assert pitch(made[int(0.7 * RATE_HZ) : int(1.5 * RATE_HZ)]) == pytest.approx(440, rel=0.005)


def test_a_shift_is_circular() -> None:
    clip = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    np.testing.assert_array_equal(shift_time(clip, RATE_HZ, 0.25), np.roll(clip, 250))


@pytest.mark.parametrize("classic", AUGMENTATIONS)
def test_copies_follow_from_seed_and_clip_and_leave_every_other_draw_alone(classic: str) -> None:
    clip = tone(duration_s=0.5)
    settings = AUGMENTATIONS[classic]()
    strength = settings.strengths[-1]
    random.seed(5)
    np.random.seed(5)
    first = augmented_copies(settings, clip, RATE_HZ, strength, 1, "a", BACKGROUNDS)
    after = random.random(), np.random.random()
    random.seed(5)
    np.random.seed(5)
    assert after == (random.random(), np.random.random())
    assert len(first) == settings.copies
    assert all(copy.shape == clip.shape and copy.dtype == np.float32 and np.isfinite(copy).all() for copy in first)
    again = augmented_copies(settings, clip, RATE_HZ, strength, 1, "a", BACKGROUNDS)
    assert all((one == other).all() for one, other in zip(first, again, strict=True))
    other = augmented_copies(settings, clip, RATE_HZ, strength, 1, "b", BACKGROUNDS)
    assert any((one != two).any() for one, two in zip(first, other, strict=True))


TOY = """
import numpy as np
from common.config.augmentations import Augmentation
from typing import ClassVar

class Halved(Augmentation):
    name: ClassVar[str] = "halved"
    title: ClassVar[str] = "Half as loud"
    strengths: tuple[float, ...] = (0.1, 0.2, 0.5)

    def change(self, clip, strength):
        return clip.wave * np.float32(strength)

from common.config.methods import METHODS, resolve_methods
from common.config.run import load_preset
from components.train_classifier.candidates import first_phase
from components.train_classifier.waveform import augmented_copies

settings = load_preset("tiny", "train_classifier.halved.copies=3").train_classifier
assert METHODS["halved"].title == "Half as loud"
found = first_phase(resolve_methods("gold,halved"), [0], settings, [1])
assert [candidate.strength for candidate in found if candidate.classic == "halved"] == [0.1, 0.2, 0.5]
made = augmented_copies(settings.halved, np.ones(4, np.float32), 16000, 0.5, 0, "a")
assert len(made) == 3 and (made[0] == 0.5).all()
"""


def test_an_augmentation_is_one_class() -> None:
    subprocess.run([sys.executable, "-c", TOY], check=True)
