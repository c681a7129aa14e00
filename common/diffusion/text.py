"""Captions as tokens and as conditions of a diffusion transformer, in training and sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from common.corpus.vocabulary import EOS_TOKEN, PAD_TOKEN, UNK_TOKEN, fast_tokenizer
from common.corpus.vocabulary import build_tokenizer as build_fast_tokenizer
from common.errors import DataError
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


def build_tokenizer(vocabulary: Sequence[tuple[str, float]], max_length: int) -> PreTrainedTokenizerFast:
    """Build the text encoder's tokenizer for a corpus's vocabulary, `(piece, log probability)` by id.

    T5's unigram model, but not the class `T5Tokenizer`, which drops byte fallback whenever it is loaded
    (transformers 5), and with it every label in another script.

    Raises DataError: the first three pieces are not padding, end and unknown.
    """
    found, expected = tuple(piece for piece, _ in vocabulary[:3]), (PAD_TOKEN, EOS_TOKEN, UNK_TOKEN)
    if found != expected:
        raise DataError(f"the vocabulary starts with {found}, expected {expected}: build the corpus again")
    tokenizer = build_fast_tokenizer(vocabulary)
    return fast_tokenizer(tokenizer, max_length, model_input_names=["input_ids", "attention_mask"])


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
