"""Exponential moving average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from common.training.sharding import local


class Ema:
    """Averages of `parameters`, with a decay that rises to `decay`: min(decay, (1 + step) / (10 + step)).

    Args:
        decay: 0 = no averaging; `averages` is then empty and all methods do nothing.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._parameters, self._decay = parameters, decay
        self.averages: dict[str, Tensor] = {key: p.detach().clone() for key, p in parameters.items()} if decay else {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the averages with the weights after `step` (from 0)."""
        if self.averages:
            decay = min(self._decay, (1 + step) / (10 + step))
            current = [local(p) for p in self._parameters.values()]
            torch._foreach_lerp_([local(value) for value in self.averages.values()], current, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Swap the averages into the model for the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def apply(self) -> None:
        """Copy the averages into the model."""
        for key, average in self.averages.items():
            local(self._parameters[key]).copy_(local(average))

    @torch.no_grad()
    def _swap(self) -> None:
        for key, average in self.averages.items():
            current = local(self._parameters[key]).clone()
            local(self._parameters[key]).copy_(local(average))
            local(average).copy_(current)
