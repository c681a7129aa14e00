"""The accelerator: where models run, in how many processes, in which precision."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Literal

from common.errors import ConfigError
from common.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

log = get_logger("devices")

GPUS = "SYNTHIO_GPUS"
"""Variable with the number of GPUs that the cluster gave this task."""


def check_gpus() -> None:
    """Refuse to compute on a CPU beside GPUs that the cluster gave. Raises ConfigError: torch finds none of them."""
    if os.environ.get(GPUS, "") in ("", "0"):
        return
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(
            f"{GPUS}={os.environ[GPUS]}, but torch {torch.__version__} finds no GPU: build the images with a torch for "
            "the node's driver (make images BUILD_ARGUMENTS='--build-arg TORCH=…'), or set gpus: 0 in the profile"
        )


def device() -> Literal["cuda", "cpu"]:
    """Device of the models of a stage: `cuda` if there is a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def has_bf16() -> bool:
    """Whether there is a GPU that computes in bf16; older ones (V100, T4) emulate it, more slowly than fp32."""
    import torch

    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def computes_bf16(where: torch.device, precision: str) -> bool:
    """Whether a training of this precision uses bf16 on this device; on a GPU without it, it uses fp32."""
    if precision != "bf16":
        return False
    if where.type == "cuda" and not has_bf16():
        _tell_once()
        return False
    return True


def autocast(where: torch.device, precision: str) -> AbstractContextManager[None]:
    """Context in which a model with fp32 weights computes in `precision`; see `computes_bf16`."""
    import torch

    return torch.autocast(where.type, torch.bfloat16, enabled=computes_bf16(where, precision))


@contextmanager
def tf32(where: torch.device, precision: str) -> Iterator[None]:
    """Context in which a GPU rounds the factors of fp32 products to TF32, if `precision` is bf16; sums stay in fp32.

    For what autocast leaves in fp32 and for evaluations during a training that computes in bf16.
    """
    import torch

    if where.type != "cuda" or not computes_bf16(where, precision):
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@cache
def _tell_once() -> None:
    log.warning("no_bf16 hint='this GPU only emulates bf16: training computes in fp32'")
