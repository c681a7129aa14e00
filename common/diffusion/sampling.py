"""Sampling of latents with classifier-free guidance, by the solver of the model's back end.

The result equals that of the model's own pipeline, but latents have the clip's own length instead of the
model's whole window, and every clip is independent of the others in its batch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import StableAudioAttnProcessor2_0
from diffusers.models.transformers.stable_audio_transformer import StableAudioDiTModel
from torch import Tensor, nn

from common.config.t2a import SamplerConfig
from common.diffusion.backend import T2ABackend
from common.diffusion.objective import Noise
from common.diffusion.text import Condition, Text, join
from common.errors import ConfigError


@torch.no_grad()
def sample(
    backend: T2ABackend,
    captions: Sequence[str],
    durations_s: Sequence[float],
    generators: Sequence[torch.Generator],
    sampler: SamplerConfig,
    frames: int,
    start: tuple[Tensor, float] | None = None,
    texts: TextCache | None = None,
) -> Tensor:
    """Sample one clip per caption, at least one.

    A clip depends on its caption, duration, generator and the batch size, not on its neighbours. Batches are always
    full (the last one is padded), so results are bit-equal on one machine; other batch sizes agree within 1e-4.

    Args:
        generators: N CPU generators; they or their seeds also drive the solver's noise.
        sampler: steps and their spacing, guidance, batch size.
        frames: L.
        start: latents `(N, D, L)` in place of pure noise (SDEdit, arXiv 2108.01073), and the time in (0, 1] to which
            they are noised; 1 forgets them.
        texts: cache for this model and batch size; avoids encoding a caption twice.

    Returns `(N, D, L)` float32 latents. Raises ConfigError: the lengths do not match, or the time is out of range.
    """
    count = len(captions)
    if not len(durations_s) == len(generators) == count:
        raise ConfigError(f"{count} captions, {len(durations_s)} durations, {len(generators)} generators: must match")
    condition = backend.condition if texts is None else texts.condition
    batches = []
    for first in range(0, count, sampler.batch_size):
        rows = [min(first + i, count - 1) for i in range(sampler.batch_size)]
        own = generators[first : rows[-1] + 1]
        batches.append(
            _denoise(
                backend,
                condition([captions[i] for i in rows], [durations_s[i] for i in rows]),
                Noise(own, (backend.latent_channels, frames), sampler.batch_size),
                sampler,
                start and (start[0][rows], start[1]),
            )
        )
    return torch.cat(batches)[:count]


def sample_each(
    backend: T2ABackend,
    captions: Sequence[str],
    durations_s: Sequence[float],
    seeds: Sequence[int],
    sampler: SamplerConfig,
    bucket_frames: int = 1,
) -> list[tuple[int, Tensor]]:
    """Sample clips of any durations, those of one latent length together.

    Returns the number of each clip and its latents `(D, L)`, the shortest first; L is a multiple of `bucket_frames`.
    """
    frames = [backend.frames(duration_s, bucket_frames) for duration_s in durations_s]
    made: list[tuple[int, Tensor]] = []
    for length in sorted(set(frames)):
        rows = [row for row, found in enumerate(frames) if found == length]
        generators = [torch.Generator().manual_seed(seeds[row]) for row in rows]
        spoken, lasting = [captions[row] for row in rows], [durations_s[row] for row in rows]
        made += zip(rows, sample(backend, spoken, lasting, generators, sampler, length), strict=True)
    return made


class TextCache:
    """LRU cache of the text encoder's states, by caption; the encoder must not change while it lives.

    New captions are encoded in padded batches of one size, so that results depend on neither order nor neighbours.
    """

    def __init__(self, backend: T2ABackend, batch_size: int, limit: int = 512) -> None:
        self._backend, self._batch_size, self._limit = backend, batch_size, max(limit, batch_size)
        self._rows: OrderedDict[str, Text] = OrderedDict()
        self.encoded = 0

    @torch.no_grad()
    def condition(self, captions: Sequence[str], durations_s: Sequence[float]) -> Condition:
        """Condition as in `T2ABackend.condition`, for at most `limit` distinct captions."""
        new = [caption for caption in dict.fromkeys(captions) if caption not in self._rows]
        for start in range(0, len(new), self._batch_size):
            part = new[start : start + self._batch_size]
            text = self._backend.encode_text(part + part[-1:] * (self._batch_size - len(part)))
            for row, caption in enumerate(part):
                self._rows[caption] = Text(text.hidden[row], text.mask[row])
            self.encoded += len(part)
        for caption in captions:
            self._rows.move_to_end(caption)
        rows = [self._rows[caption] for caption in captions]
        while len(self._rows) > self._limit:
            self._rows.popitem(last=False)
        text = Text(torch.stack([row.hidden for row in rows]), torch.stack([row.mask for row in rows]))
        return self._backend.condition_text(text, durations_s)


def _denoise(
    backend: T2ABackend, condition: Condition, noise: Noise, sampler: SamplerConfig, start: tuple[Tensor, float] | None
) -> Tensor:
    solver = backend.solver(sampler, noise, start[1] if start else None)
    latents = solver.start(noise.draw().to(backend.device), start[0].to(backend.device) if start else None)
    guided = sampler.guidance_scale > 1
    dtype = backend.dtype
    both = join([backend.null(condition), condition]) if guided else condition
    both = Condition(both.cross.to(dtype), both.global_.to(dtype))
    null_rows = len(condition.cross) if guided else 0
    with steady(backend.transformer, both, null_rows) as standing:
        for t in solver.times:
            scaled = solver.scale(latents, t)
            inputs = torch.cat([scaled, scaled]) if guided else scaled
            v = backend.predict(inputs.to(dtype), t.expand(len(inputs)), standing).float()
            if guided:
                unconditional, conditional = v.chunk(2)
                v = unconditional + sampler.guidance_scale * (conditional - unconditional)
            latents = solver.step(v, t, latents)
    return latents.float().cpu()


class SteadyProcessor:
    """An attention processor of diffusers with cached keys and values, for many steps under one condition.

    Rows with the null condition attend to zeros through layers without bias, so their cross-attention is zero and is
    skipped. Both are exact; on a small model they are a quarter of the work.

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
        mixed = attn.to_out[0](attended.transpose(1, 2).flatten(2))
        return torch.cat([mixed.new_zeros(self._null_rows, *mixed.shape[1:]), mixed])


@contextmanager
def steady(transformer: Any, condition: Condition, null_rows: int) -> Iterator[Condition]:
    """Fix the condition of a transformer for the block, if its cross-attention is supported; it is not trained there.

    Yields condition to call the transformer with, in place of `condition`; without guidance `null_rows` is 0.
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
