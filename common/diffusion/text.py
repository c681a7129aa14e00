"""Captions as tokens and as conditions of a diffusion transformer, in training and sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.log import event, get_logger

log = get_logger("text")


@dataclass(frozen=True)
class Condition:
    """Condition of a batch of clips."""

    cross: Tensor
    """`(B, S, E)`: text tokens (padding zeroed), then the seconds; for cross-attention."""
    global_: Tensor
    """`(B, 1, G)`: the seconds; prepended to the latents."""

    def __getitem__(self, rows: Tensor | slice | list[int]) -> Condition:
        """Select rows."""
        return Condition(self.cross[rows], self.global_[rows])


@dataclass(frozen=True)
class Text:
    """States `(B, S', E)` of the text encoder, and mask `(B, S)` with S ≥ S', 1 where there is a token."""

    hidden: Tensor
    mask: Tensor


def join(conditions: Sequence[Condition]) -> Condition:
    """Concatenate the rows of several conditions."""
    return Condition(torch.cat([c.cross for c in conditions]), torch.cat([c.global_ for c in conditions]))


def tokenize(tokenizer: Any, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Tokenise captions to ids and mask `(B, tokenizer.model_max_length)`, int64, padded as in `StableAudioPipeline`.

    Captions are lowercased, as the corpus is. A caption that does not fit is truncated, and logged at the first time.
    """
    lowered = [caption.lower() for caption in captions]
    limit = tokenizer.model_max_length
    batch = tokenizer(lowered, padding="max_length", truncation=True, max_length=limit)
    for caption, mask in zip(lowered, batch["attention_mask"], strict=True):
        if mask[-1] and (length := len(tokenizer(caption)["input_ids"])) > limit:
            _log_cut(caption, length, limit)
    return torch.from_numpy(np.array(batch["input_ids"])), torch.from_numpy(np.array(batch["attention_mask"]))


@cache
def _log_cut(caption: str, tokens: int, limit: int) -> None:
    event(log, "caption_cut", caption=caption, tokens=tokens, limit=limit)
