"""Speed and memory of a piece of work on a GPU, and the row that compares two of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from common.runtime.devices import device
from common.study.cost_table import costs
from tests.benchmarks.figures import Figure


@dataclass(frozen=True)
class Rate:
    """Speed and memory of one side.

    Attributes:
        clips_per_s: clips, pairs or windows per second.
        operations: of one clip.
        gib: peak of allocated GPU memory; 0 without a GPU.
    """

    clips_per_s: float
    operations: float
    gib: float

    def words(self, unit: str) -> str:
        """For the table: speed, share of the GPU's peak, memory."""
        peak = peak_flops()
        share = f", {self.clips_per_s * self.operations / peak:.0%} of peak" if peak else ""
        return f"{self.clips_per_s:.3g} {unit}/s{share}, {self.gib:.1f} GiB"


def peak_flops() -> float:
    """Dense bf16 FLOP/s of this machine's GPU; 0 = not in the table of costs, or no GPU."""
    if device() == "cpu":
        return 0.0
    name = torch.cuda.get_device_name().replace(" ", "").upper()
    return next((1e12 * gpu.tflops for key, gpu in costs().gpus.items() if key.upper() in name), 0.0)


def measured(run: Callable[[], float], operations: float) -> Rate:
    """Rate of `run`, which returns clips per second, with the peak of memory during it."""
    if device() == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    rate = run()
    gib = torch.cuda.max_memory_allocated() / 2**30 if device() == "cuda" else 0.0
    return Rate(rate, operations, gib)


def operations(forward: Callable[[], object]) -> float:
    """FLOPs of a forward pass."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        forward()
    return float(counter.get_total_flops())


def compared(what: str, unit: str, ours: Rate, peer: Rate, peer_is: str, target: float, note: str) -> Figure:
    """A row: our rate over the peer's."""
    return Figure(
        what, ours.clips_per_s / peer.clips_per_s, ">=", target, "x", ours.words(unit), f"{peer_is}: {peer.words(unit)}", note
    )  # fmt: skip


def wait() -> None:
    """Wait for the GPU."""
    if device() == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object]) -> float:
    """Wall time of `work`, the GPU's included."""
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start
