"""What a diffusion transformer is conditioned on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """What a clip is generated from.

    Attributes:
        cross: `(B, S, E)`: text tokens (padding zeroed), then the seconds; for cross-attention.
        global_: `(B, 1, G)`: the seconds; prepended to the latents.
    """

    cross: Tensor
    global_: Tensor

    def __getitem__(self, rows: Tensor | slice | list[int]) -> Condition:
        """The condition of some rows."""
        return Condition(self.cross[rows], self.global_[rows])


@dataclass(frozen=True)
class Text:
    """What the text encoder makes of captions.

    Attributes:
        hidden: `(B, S', E)` states, `S'` at most `S`.
        mask: `(B, S)`, 1 where there is a token.
    """

    hidden: Tensor
    mask: Tensor


def join(conditions: Sequence[Condition]) -> Condition:
    """The conditions' rows one after the other."""
    return Condition(torch.cat([c.cross for c in conditions]), torch.cat([c.global_ for c in conditions]))
