"""Latent lengths, rounded up so that clips of nearly equal length can share a batch. Free of torch."""

from __future__ import annotations

from typing import Protocol


class Window(Protocol):
    """What is needed of a text-to-audio model."""

    @property
    def max_frames(self) -> int:
        """Latent frames of the longest clip."""
        ...

    def frames(self, duration_s: float) -> int:
        """Latent frames that hold `duration_s`."""
        ...


def bucket_frames(model: Window, duration_s: float, width: int) -> int:
    """Latent frames of the bucket that `duration_s` falls into: a multiple of `width`, or the window."""
    return min(model.max_frames, -(-model.frames(duration_s) // width) * width)
