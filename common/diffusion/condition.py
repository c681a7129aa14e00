"""Conditions of a diffusion transformer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """Condition of a batch of clips.

    Attributes:
        cross: `(B, S, E)`: text tokens (padding zeroed), then the seconds; for cross-attention.
        global_: `(B, 1, G)`: the seconds; prepended to the latents.
    """

    cross: Tensor
    global_: Tensor

    def __getitem__(self, rows: Tensor | slice | list[int]) -> Condition:
        """Select rows."""
        return Condition(self.cross[rows], self.global_[rows])


@dataclass(frozen=True)
class Text:
    """Output of the text encoder for a batch of captions.

    Attributes:
        hidden: `(B, S', E)` states, `S'` at most `S`.
        mask: `(B, S)`, 1 where there is a token.
    """

    hidden: Tensor
    mask: Tensor


def join(conditions: Sequence[Condition]) -> Condition:
    """Concatenate the rows of several conditions."""
    return Condition(torch.cat([c.cross for c in conditions]), torch.cat([c.global_ for c in conditions]))
