"""Share of a step's batch in one forward pass of one process."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from common.errors import ConfigError
from common.runtime.timing import Stopwatch


@dataclass(frozen=True)
class Part:
    """Part `index` of `count` equal parts of a batch.

    With W processes, process r takes part `k * W + r` in micro-step k, so the parts of one micro-step are
    neighbours.

    Attributes:
        index: from 0.
        count: processes times accumulation.
        waiting: counts the blocks in which the loss waits for data.
    """

    index: int = 0
    count: int = 1
    processes: int = 1
    waiting: Stopwatch = field(default_factory=Stopwatch, compare=False, repr=False)

    def rows(self, size: int) -> slice:
        """Rows of this part in a batch of `size`. Raises ConfigError: `size` is not a multiple of `count`."""
        share = _share(size, self.count)
        return slice(self.index * share, (self.index + 1) * share)

    def gathered_rows(self, size: int) -> slice:
        """Rows that `gather` returns from a batch of `size`: those of this micro-step."""
        share = _share(size, self.count)
        first = self.index - self.index % self.processes
        return slice(first * share, (first + self.processes) * share)

    def gather(self, tensor: Tensor) -> Tensor:
        """Concatenate the rows of all processes in order, `(B, …)` to `(processes * B, …)`; gradients flow back.

        For contrastive losses: each process computes the loss over all rows of the micro-step; the mean over
        the processes is that same loss. Gradient accumulation does not widen the gathered batch.
        """
        if self.processes == 1:
            return tensor
        from torch.distributed.nn.functional import all_gather

        return torch.cat(list(all_gather(tensor.contiguous())))


WHOLE = Part()
"""The whole batch as one part."""


def _share(size: int, count: int) -> int:
    if size % count:
        raise ConfigError(
            f"a batch of {size} cannot be split into {count} equal parts (processes times accumulation); "
            f"set the batch size to a multiple of {count}"
        )
    return size // count
