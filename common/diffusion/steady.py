"""Cross-attention with cached keys and values, for many steps under one condition.

A sampler calls the network repeatedly with the same condition, so the keys and values of its tokens never
change. Rows with the null condition attend to zeros through layers without bias, so their cross-attention
is zero and is skipped. Both are exact; on a small model they are a quarter of the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import StableAudioAttnProcessor2_0
from diffusers.models.transformers.stable_audio_transformer import StableAudioDiTModel
from torch import Tensor, nn

from common.diffusion.condition import Condition


class SteadyProcessor:
    """An attention processor of diffusers with fixed keys and values.

    Args:
        attention: cross-attention without bias or normalisation of queries and keys.
        tokens: `(B, S, E)` of the rows that are not null.
        null_rows: number of null rows, which come first.
    """

    def __init__(self, attention: Any, tokens: Tensor, null_rows: int) -> None:
        self._null_rows = null_rows
        key, value = attention.to_k(tokens), attention.to_v(tokens)
        width = attention.to_q.weight.shape[0] // attention.heads
        repeats = attention.heads * width // key.shape[-1]
        self._key, self._value = (
            part.view(*part.shape[:2], -1, width).transpose(1, 2).repeat_interleave(repeats, dim=1)
            for part in (key, value)
        )

    def __call__(self, attn: Any, hidden_states: Tensor, *arguments: Any, **named: Any) -> Tensor:
        """Attend from `hidden_states` `(null_rows + B, L, C)`; the tokens passed here are ignored."""
        query = attn.to_q(hidden_states[self._null_rows :])
        query = query.view(*query.shape[:2], attn.heads, -1).transpose(1, 2)
        attended = nn.functional.scaled_dot_product_attention(query, self._key, self._value)
        mixed: Tensor = attn.to_out[0](attended.transpose(1, 2).flatten(2))
        return torch.cat([mixed.new_zeros(self._null_rows, *mixed.shape[1:]), mixed])


@contextmanager
def steady(transformer: Any, condition: Condition, null_rows: int) -> Iterator[Condition]:
    """Fix the condition of a transformer for the block, if its cross-attention is supported.

    Args:
        transformer: must not be trained inside the block.
        null_rows: 0 without guidance.

    Yields condition to call the transformer with, in place of `condition`.
    """
    attentions = _attentions(transformer)
    if not attentions:
        yield condition
        return
    tokens = transformer.cross_attention_proj(condition.cross[null_rows:])
    stock = [attention.processor for attention in attentions]
    try:
        for attention in attentions:
            attention.processor = SteadyProcessor(attention, tokens, null_rows)
        yield Condition(condition.cross[:, :1], condition.global_)
    finally:
        for attention, processor in zip(attentions, stock, strict=True):
            attention.processor = processor


def _attentions(transformer: Any) -> list[Any]:
    """Cross-attentions that `SteadyProcessor` can replace; none if any block differs or is compiled."""
    if not isinstance(transformer, StableAudioDiTModel):
        return []
    blocks = list(transformer.transformer_blocks)
    known = all(
        block._compiled_call_impl is None and type(block.attn2.processor) is StableAudioAttnProcessor2_0
        for block in blocks
    )
    return [block.attn2 for block in blocks] if known else []
