"""Fingerprints of all clips of a replicate, on disk: any pair may have to be compared, and memory stays flat."""

from __future__ import annotations

from collections.abc import Callable
from tempfile import TemporaryFile
from types import TracebackType

import numpy as np

from components.filter_audio.recordings import fingerprint


class Fingerprints:
    """Keeps fingerprints in a temporary file; use it as a context manager.

    Args:
        spectrogram: log-mel (T, M) of a clip by its id, in dB; asked at most once for each clip that was not put.
    """

    def __init__(self, spectrogram: Callable[[str], np.ndarray]) -> None:
        self._spectrogram = spectrogram
        self._places: dict[str, tuple[int, int, int]] = {}
        self._file = TemporaryFile(prefix="fingerprints-")

    def __enter__(self) -> Fingerprints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def put(self, clip_id: str, log_mel: np.ndarray) -> None:
        """Keep the fingerprint of a clip.

        Args:
            clip_id: of the clip.
            log_mel: (T, M), dB.
        """
        mark = fingerprint(log_mel).astype(np.float16)
        self._places[clip_id] = (self._file.seek(0, 2), *mark.shape)
        self._file.write(mark.tobytes())

    def get(self, clip_id: str) -> np.ndarray:
        """The fingerprint (T', M) of a clip."""
        if clip_id not in self._places:
            self.put(clip_id, self._spectrogram(clip_id))
        offset, frames, bands = self._places[clip_id]
        self._file.seek(offset)
        data = self._file.read(2 * frames * bands)
        return np.frombuffer(data, np.float16).reshape(frames, bands).astype(np.float32)
