"""A machine that seems to have a GPU, as far as questions about it go; nothing can run on it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, bf16: bool = True, gib: float = 24.0, free_gib: float = 23.0) -> None:
    """Make torch say that there is one GPU.

    Args:
        bf16: whether it computes in bf16; one that does not still emulates it, as torch says by default.
        gib: memory of the card.
        free_gib: what of it nobody holds.
    """
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16 or including_emulation)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda where=None: (int(free_gib * 2**30), int(gib * 2**30)))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda where=None: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda where=None: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda where=None: SimpleNamespace(major=8 if bf16 else 7))
