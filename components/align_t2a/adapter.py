"""What is trained, and what it is compared with: full weights and a frozen copy, or LoRA on and off."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from common.diffusion.backend import StableAudio
from common.errors import ConfigError

ATTENTION_PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
"""Linear layers of self- and cross-attention in diffusers' `StableAudioDiTModel`."""


@dataclass(frozen=True)
class Policy:
    """A model under alignment.

    Attributes:
        backend: gives the policy's errors.
        trained: its parameters that require a gradient are trained.
        reference: context whose value gives the errors of the model as it was.
        merge: ends training; afterwards `backend` is a plain model that can be saved.
    """

    backend: StableAudio
    trained: nn.Module
    reference: Callable[[], AbstractContextManager[StableAudio]]
    merge: Callable[[], None]


def make_policy(backend: StableAudio, adapter: Literal["lora", "full"], rank: int, seed: int) -> Policy:
    """Make `backend` trainable, in place; text encoder, projection and codec stay frozen.

    Args:
        backend: the model to align.
        adapter: `full` trains all weights of the transformer against a frozen copy; `lora` trains
            low-rank adapters of its attention projections (arXiv 2106.09685) and takes the same
            weights with adapters off as the reference, so that they are in memory once.
        rank: of the adapters.
        seed: of the adapters' initial weights.
    """
    return _full(backend) if adapter == "full" else _lora(backend, rank, seed)


def _full(backend: StableAudio) -> Policy:
    frozen = copy.copy(backend)
    frozen.transformer = copy.deepcopy(backend.transformer).requires_grad_(False).eval()
    backend.transformer.requires_grad_(True)

    @contextmanager
    def reference() -> Iterator[StableAudio]:
        yield frozen

    def merge() -> None:
        backend.transformer.requires_grad_(False).eval()

    return Policy(backend, backend.transformer, reference, merge)


def _lora(backend: StableAudio, rank: int, seed: int) -> Policy:
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import LoraLayer

    settings = LoraConfig(
        r=rank, lora_alpha=rank, lora_dropout=0.0, bias="none", target_modules=list(ATTENTION_PROJECTIONS)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wrapped = get_peft_model(backend.transformer, settings)
    if not any(isinstance(module, LoraLayer) for module in wrapped.modules()):
        raise ConfigError("no attention projection found in the transformer; use align_t2a.adapter=full for this model")

    @contextmanager
    def reference() -> Iterator[StableAudio]:
        with wrapped.disable_adapter():
            yield backend

    def merge() -> None:
        # Adapters live inside the layers of the transformer, so unloading restores `backend` itself.
        backend.transformer = wrapped.merge_and_unload().requires_grad_(False).eval()

    return Policy(backend, wrapped, reference, merge)
