"""A CLAP small enough to train in a second, and sounds that it can tell apart."""

from __future__ import annotations

import numpy as np

from common.config.clap import ClapArchitecture

RATE_HZ = 8000
SMALL = ClapArchitecture(
    sample_rate_hz=RATE_HZ,
    window_s=1,
    padding="repeatpad",
    fft_size=256,
    hop_length=128,
    mel_bins=32,
    frequency_min_hz=50,
    frequency_max_hz=4000,
    spec_size=64,
    patch_size=8,
    patch_width=16,
    depths=(1, 1),
    audio_heads=(1, 2),
    attention_window=4,
    text_width=32,
    text_layers=1,
    text_heads=2,
    text_ff_width=64,
    max_tokens=64,
    projection_dim=32,
    dropout=0.0,
)
LABELS = ("low tone", "high tone", "noise")


def make_sound(label: str, rng: np.random.Generator, duration_s: float = 0.8) -> np.ndarray:
    """A clip of one of `LABELS`."""
    t = np.arange(int(RATE_HZ * duration_s)) / RATE_HZ
    hum = {"low tone": 200.0, "high tone": 2000.0, "noise": 0.0}[label] * rng.uniform(0.8, 1.25)
    tone = np.sin(2 * np.pi * hum * t) if hum else rng.standard_normal(len(t)) * 0.5
    return (0.3 * tone + 0.01 * rng.standard_normal(len(t))).astype(np.float32)
