"""Rounding of latent lengths to buckets, so that clips of nearly equal length share a batch. Free of torch."""

from __future__ import annotations

from typing import Protocol


class Window(Protocol):
    """Part of a text-to-audio model's interface that is needed here."""

    @property
    def max_frames(self) -> int:
        """Latent frames of the longest clip."""
        ...

    def frames(self, duration_s: float) -> int:
        """Latent frames that hold `duration_s`."""
        ...


def bucket_frames(model: Window, duration_s: float, width: int) -> int:
    """Round the latent frames of `duration_s` up to a multiple of `width`, or at most to the window."""
    return min(model.max_frames, -(-model.frames(duration_s) // width) * width)
