"""Sounds that tiny models tell apart."""

from __future__ import annotations

import numpy as np

RATE = 16000
TONES = ("bus", "dog_bark", "jazz")
CLASS_LABELS = ["Bell / low", "noise", "siren"]
CLAP_RATE = 8000
CLAP_SOUNDS = ("low tone", "high tone", "noise")


def tone(label: str, number: int, duration_s: float = 0.5) -> np.ndarray:
    """A noisy tone (T,) whose pitch belongs to the label, one of `TONES`."""
    rng = np.random.default_rng([TONES.index(label), number])
    time = np.arange(round(duration_s * RATE)) / RATE
    pure = np.sin(2 * np.pi * 300 * 2 ** TONES.index(label) * time) * (0.2 + 0.1 * rng.random())
    noisy: np.ndarray = (pure + 0.01 * rng.standard_normal(len(time))).astype(np.float32)
    return noisy


def class_sound(label_id: int, rng: np.random.Generator) -> np.ndarray:
    """A bell, noise or a siren (T,): index of one of `CLASS_LABELS`."""
    time = np.arange(7000) / RATE
    noise = 0.02 * rng.standard_normal(len(time))
    pitch = [300, 0, 900][label_id] * rng.uniform(0.9, 1.1)
    pure = 0.3 * np.sin(2 * np.pi * pitch * time * (1 + (label_id == 2) * time))
    return (noise * (10 if label_id == 1 else 1) + pure).astype(np.float32)


def clap_sound(label: str, rng: np.random.Generator, duration_s: float = 0.8) -> np.ndarray:
    """What one of `CLAP_SOUNDS` sounds like (T,), at the rate of the tiny CLAP."""
    time = np.arange(int(CLAP_RATE * duration_s)) / CLAP_RATE
    hum = {"low tone": 200.0, "high tone": 2000.0, "noise": 0.0}[label] * rng.uniform(0.8, 1.25)
    pure = np.sin(2 * np.pi * hum * time) if hum else rng.standard_normal(len(time)) * 0.5
    return (0.3 * pure + 0.01 * rng.standard_normal(len(time))).astype(np.float32)
