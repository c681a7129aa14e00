"""Bytes and FLOPs of a training step on a GPU, counted without one on PyTorch's meta device.

The meta device has neither autocast nor flash attention, which decide what a step keeps; both are stood in for by
what CUDA's do: products in bf16, norms in fp32, and of attention queries, keys, values, result and one number a query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

LOWER = {F.linear, torch.matmul, torch.bmm, torch.baddbmm, torch.addmm, Tensor.matmul, Tensor.__matmul__} | {
    *(torch.conv1d, torch.conv2d, F.conv1d, F.conv2d)
}
"""What CUDA's autocast computes in bf16."""
RAISE = {F.layer_norm, F.softmax, torch.softmax, Tensor.softmax, F.cross_entropy, F.mse_loss, torch.pow, Tensor.pow}
"""What it computes in fp32."""


class CudaAutocast(TorchFunctionMode):
    """Stand-in for `torch.autocast("cuda", torch.bfloat16)` with flash attention.

    Args:
        bf16: False = fp32 throughout, with flash-like (memory-efficient) attention.
    """

    def __init__(self, bf16: bool = True) -> None:
        super().__init__()
        self._bf16 = bf16
        self._weights: dict[int, Tensor] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call `func` with arguments of the type that autocast gives them."""
        named = dict(kwargs or {})
        if func is F.scaled_dot_product_attention:
            query, key, value = (self._lowered(part) if self._bf16 else part for part in args[:3])
            if named.get("enable_gqa"):
                repeats = query.shape[1] // key.shape[1]
                key, value = (part.repeat_interleave(repeats, dim=1) for part in (key, value))
            return Flash.apply(query, key, value)
        if self._bf16 and func in LOWER:
            args, named = self._each(args, named, self._lowered)
        elif self._bf16 and func in RAISE:
            args, named = self._each(args, named, lambda tensor: tensor.float())
        return func(*args, **named)

    @staticmethod
    def _each(args: Any, named: Any, change: Callable[[Tensor], Tensor]) -> tuple[list[Any], dict[str, Any]]:
        def changed(value: Any) -> Any:
            return change(value) if isinstance(value, Tensor) and value.is_floating_point() else value

        return [changed(value) for value in args], {name: changed(value) for name, value in named.items()}

    def _lowered(self, tensor: Tensor) -> Tensor:
        if tensor.dtype == torch.bfloat16:
            return tensor
        if not tensor.is_leaf or not isinstance(tensor, torch.nn.Parameter):
            return tensor.bfloat16()
        # Autocast keeps the copies of weights to the end of the pass.
        return self._weights.setdefault(id(tensor), tensor.bfloat16())


class Flash(torch.autograd.Function):
    """Attention as far as shapes and saved tensors go."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Result of the query's shape."""
        made = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, made, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        """Gradients of the arguments' shapes."""
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])
