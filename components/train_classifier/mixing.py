"""Mixup: examples and their labels mixed in pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Mixing:
    """How a batch is mixed (arXiv 1710.09412): with itself in another order.

    Attributes:
        share: of the first example of each pair, in [0, 1].
        partners: (B,) a permutation: the second example of each pair.
    """

    share: float
    partners: Tensor

    def features(self, batch: Tensor) -> Tensor:
        """(B, frames, bins) mixed; beyond the end of both clips of a pair NaN stays NaN."""
        mixed = self.values(batch.nan_to_num(0.0))
        return mixed.masked_fill(batch.isnan() & batch[self.partners].isnan(), float("nan"))

    def values(self, batch: Tensor) -> Tensor:
        """(B, …) mixed: for targets."""
        return self.share * batch + (1 - self.share) * batch[self.partners]


def draw_mixing(count: int, alpha: float, generator: torch.Generator) -> Mixing:
    """The mixing of a batch of `count`: one share for all from Beta(alpha, alpha), as in the paper's code.

    Args:
        count: examples.
        alpha: above 0; 1 = uniform shares, towards 0 hardly any mixing.
        generator: of the draws.
    """
    partners = torch.randperm(count, generator=generator)
    seed = int(torch.randint(2**31, (1,), generator=generator))
    return Mixing(float(np.random.default_rng(seed).beta(alpha, alpha)), partners)
