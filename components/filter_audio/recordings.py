"""Detection of copies: whether two clips are the same recording, from the detail of their spectrograms.

Embeddings of one class lie close together, so a high cosine alone proves no copy. Independent clips
differ in detail: which band is louder than usual in which frame.
"""

from collections.abc import Callable, Sequence
from tempfile import TemporaryFile

import numpy as np

MAX_FRAMES = 256
"""Longer spectrograms are averaged down to at most this many frames."""

RANGE_DB = 60.0
"""Dynamic range below the loudest band; anything lower is noise floor, which a codec may change."""


def fingerprint(log_mel: np.ndarray) -> np.ndarray:
    """Detail of a spectrogram (T, M) in dB: deviations from the mean of each band and each frame, scaled to norm 1.

    Returns (T', M) float32, T' at most `MAX_FRAMES`. All zeros for a spectrogram without detail.
    """
    pool = -(-len(log_mel) // MAX_FRAMES)
    whole = len(log_mel) // pool * pool
    frames = log_mel[:whole].reshape(-1, pool, log_mel.shape[1]).mean(1)
    frames = frames.clip(frames.max() - RANGE_DB)
    detail = frames - frames.mean(0, keepdims=True)
    detail -= detail.mean(1, keepdims=True)
    norm = np.linalg.norm(detail)
    return (detail / norm if norm > 1e-6 else np.zeros_like(detail)).astype(np.float32)


def recording_similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Highest correlation of two fingerprints over time shifts of up to a quarter of the longer one.

    Returns 1 for the same recording at any gain, near 0 for independent ones. A shift lowers it by the part that is
    shifted out.
    """
    size = len(a) + len(b)
    spectrum = (np.fft.rfft(a, size, axis=0).conj() * np.fft.rfft(b, size, axis=0)).sum(1)
    correlation = np.fft.irfft(spectrum, size)
    reach = max(len(a), len(b)) // 4
    return float(max(correlation[: reach + 1].max(), correlation[size - reach :].max() if reach else -1.0))


def nearest_first(similarity: np.ndarray, least: float, most: int) -> list[int]:
    """At most `most` indices of similarities (N,) of at least `least`, highest first."""
    near = np.flatnonzero(similarity >= least)
    return [int(index) for index in near[np.argsort(-similarity[near], kind="stable")][:most]]


def first_copy(
    clip_id: str, others: Sequence[str], fingerprints: Callable[[str], np.ndarray], least: float
) -> str | None:
    """First of `others`, the likeliest first, that is the same recording as `clip_id`, or None."""
    if not others:
        return None
    own = fingerprints(clip_id)
    return next((other for other in others if recording_similarity(own, fingerprints(other)) >= least), None)


class Fingerprints:
    """Fingerprints in a temporary file; `spectrogram` gives the log-mel (T, M), in dB, of a clip that was not `put`."""

    def __init__(self, spectrogram: Callable[[str], np.ndarray]) -> None:
        self._spectrogram = spectrogram
        self._places: dict[str, tuple[int, int, int]] = {}
        self._file = TemporaryFile(prefix="fingerprints-")

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def put(self, clip_id: str, log_mel: np.ndarray) -> None:
        """Store the fingerprint of a clip."""
        mark = fingerprint(log_mel).astype(np.float16)
        self._places[clip_id] = (self._file.seek(0, 2), *mark.shape)
        self._file.write(mark.tobytes())

    def get(self, clip_id: str) -> np.ndarray:
        """Fingerprint (T', M) of a clip; computed if it is not stored."""
        if clip_id not in self._places:
            self.put(clip_id, self._spectrogram(clip_id))
        offset, frames, bands = self._places[clip_id]
        self._file.seek(offset)
        data = self._file.read(2 * frames * bands)
        return np.frombuffer(data, np.float16).reshape(frames, bands).astype(np.float32)
