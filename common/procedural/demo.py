"""The demo dataset: classes of the corpus re-recorded through a chain that the corpus never uses.

Everything here was fixed before any result on it was seen.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.signal import fftconvolve

from common.procedural.clips import render_clip
from common.procedural.synthesis import band_pass
from common.runtime.seeding import numpy_generator

DEMO_LABELS: tuple[str, ...] = ("beep", "bell", "bird chirp", "clap", "dog bark", "engine", "guitar pluck", "siren")
DEMO_SEED = 20240602
DEMO_RATE_HZ = 16000
DEMO_DURATION_S = 1.024


class DemoClip(NamedTuple):
    """A clip of the demo dataset: `audio` is `(T,)` float32 in [-1, 1]."""

    name: str
    label: str
    split: str
    audio: np.ndarray
    sample_rate_hz: int


def record(x: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Re-record a clip `(T,)` in [-1, 1] at `rate` Hz: short reverb, telephone band-pass, soft clipping, noise.

    The noise lies 10 to 20 dB below. Returns `(T,)` float32 in [-1, 1].
    """
    decay_s = rng.uniform(0.03, 0.12)
    t = np.arange(round(4 * decay_s * rate)) / rate
    room = rng.standard_normal(len(t)) * np.exp(-t / decay_s)
    room *= rng.uniform(0.3, 0.8) / np.sqrt(np.sum(room**2))
    room[0] = 1.0
    wet = fftconvolve(x.astype(np.float64), room)[: len(x)]
    phone = band_pass(wet, rate, rng.uniform(250, 500), rng.uniform(2400, 3600), order=4)
    clipped = np.tanh(rng.uniform(1.0, 4.0) * phone / max(1e-9, float(np.abs(phone).max())))
    level = np.sqrt(np.mean(clipped**2)) * 10 ** (-rng.uniform(10, 20) / 20)
    noisy = clipped + level * rng.standard_normal(len(x))
    return (noisy * (10 ** (rng.uniform(-12, -1) / 20) / np.abs(noisy).max())).astype(np.float32)


def demo_clips(train_per_label: int = 80, test_per_label: int = 40) -> Iterator[DemoClip]:
    """Yield the demo dataset clip by clip; each clip depends on its own name only."""
    for split, count in (("train", train_per_label), ("test", test_per_label)):
        for label in DEMO_LABELS:
            for index in range(count):
                name = f"{label.replace(' ', '_')}-{split}-{index:03d}"
                rng = numpy_generator(DEMO_SEED, "demo", name)
                clean = render_clip(label, rng, DEMO_DURATION_S, DEMO_RATE_HZ).audio
                yield DemoClip(name, label, split, record(clean, DEMO_RATE_HZ, rng), DEMO_RATE_HZ)
