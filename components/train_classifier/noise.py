"""Noisy copies of clips."""

from __future__ import annotations

import numpy as np

from common.seeding import numpy_generator


def noisy_copies(
    waveform: np.ndarray, copies: int, snr_db: float, span_db: float, seed: int, clip_id: str
) -> list[np.ndarray]:
    """Copies of a clip with white Gaussian noise.

    Args:
        waveform: (T,) float32. A silent one stays silent: it has no signal to relate noise to.
        copies: how many.
        snr_db: lowest signal-to-noise ratio.
        span_db: each copy's ratio is uniform in [snr_db, snr_db + span_db].
        seed: of the replicate.
        clip_id: enters the draws, so that they depend on no other clip.

    Returns:
        `copies` arrays (T,) float32.
    """
    generator = numpy_generator(seed, "noise", clip_id)
    rms = float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
    made = []
    for _ in range(copies):
        level = rms * 10 ** (-(snr_db + span_db * generator.random()) / 20)
        noise = generator.standard_normal(len(waveform), dtype=np.float32)
        made.append(waveform + np.float32(level) * noise)
    return made
