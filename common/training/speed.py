"""Training speed and time spent waiting for data. Times go to the log, never into artifacts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from common.runtime.timing import Stopwatch


class Speed:
    """Clips per second, share of time spent waiting for data, peak GPU memory."""

    def __init__(self, batch_size: int, device: torch.device, waiting: Stopwatch) -> None:
        self._batch_size, self._device, self._waiting = batch_size, device, waiting
        self._steps, self._wall_s, self._wait_s = 0, 0.0, 0.0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    @contextmanager
    def step(self) -> Iterator[None]:
        """Time one training step; evaluation and checkpoints between steps do not count."""
        start, waited = time.monotonic(), self._waiting.seconds
        yield
        self._steps += 1
        self._wall_s += time.monotonic() - start
        self._wait_s += self._waiting.seconds - waited

    def figures(self) -> dict[str, float]:
        """`clips_per_s`, `wait_share` and on a GPU `gpu_gib` (peak), over all steps of this process."""
        figures = {
            "clips_per_s": self._steps * self._batch_size / max(self._wall_s, 1e-9),
            "wait_share": self._wait_s / max(self._wall_s, 1e-9),
        }
        if self._device.type == "cuda":
            figures["gpu_gib"] = torch.cuda.max_memory_allocated(self._device) / 2**30
        return figures
