"""The trainable model and its frozen reference: full weights and a copy, or LoRA adapters on and off."""

import copy
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from common.diffusion.backend import T2ABackend
from common.errors import ConfigError

ATTENTION_PROJECTION = re.compile(r"(^|\.)to_(q|k|v|qkv|kv|out|out\.0)$")
"""Linear layers of self- and cross-attention, as diffusers and stable-audio-tools name them."""


@dataclass(frozen=True)
class Policy:
    """The model under training and its reference.

    Attributes:
        trained: module to optimise; only parameters that require a gradient change.
        merge: ends training; afterwards `backend` is a plain, frozen model that can be saved.
    """

    backend: T2ABackend
    trained: nn.Module
    reference: Callable[[], AbstractContextManager[T2ABackend]]
    merge: Callable[[], None]


def make_policy(
    backend: T2ABackend, adapter: Literal["lora", "full"], rank: int, seed: int, gradient_checkpointing: bool = False
) -> Policy:
    """Make `backend` trainable in place; text encoder, projection and codec stay frozen.

    Args:
        adapter: `full` trains all transformer weights against a frozen copy. `lora` trains low-rank adapters of the
            attention projections (arXiv 2106.09685); the reference is the same model with adapters off, so the
            weights are in memory once.

    Raises ConfigError: `lora`, but the transformer has no attention projections of a known name.
    """
    if gradient_checkpointing:
        backend.transformer.enable_gradient_checkpointing()
    return _full(backend) if adapter == "full" else _lora(backend, rank, seed)


def _full(backend: T2ABackend) -> Policy:
    frozen = copy.copy(backend)
    frozen.transformer = copy.deepcopy(backend.transformer).requires_grad_(False).eval()
    backend.transformer.requires_grad_(True)

    def merge() -> None:
        backend.transformer.requires_grad_(False).eval()

    return Policy(backend, backend.transformer, lambda: nullcontext(frozen), merge)


def _lora(backend: T2ABackend, rank: int, seed: int) -> Policy:
    from peft import LoraConfig, get_peft_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    targets = [
        name
        for name, module in backend.transformer.named_modules()
        if isinstance(module, nn.Linear) and ATTENTION_PROJECTION.search(name)
    ]
    if not targets:
        raise ConfigError(
            f"no attention projection (to_q, to_k, …) found in {type(backend.transformer).__name__}; use "
            "align_t2a.adapter=full for this model"
        )
    settings = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, bias="none", target_modules=targets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wrapped = get_peft_model(backend.transformer, settings)

    layers = [module for module in wrapped.modules() if isinstance(module, BaseTunerLayer)]

    @contextmanager
    def reference() -> Iterator[T2ABackend]:
        # Layer by layer: peft's own context manager visits every module, 50 ms a step at the real model size.
        try:
            for layer in layers:
                layer.enable_adapters(False)
            yield backend
        finally:
            for layer in layers:
                layer.enable_adapters(True)

    def merge() -> None:
        # Adapters are wrapped around the transformer's own layers; unloading restores `backend` itself.
        backend.transformer = wrapped.merge_and_unload().requires_grad_(False).eval()

    return Policy(backend, wrapped, reference, merge)
