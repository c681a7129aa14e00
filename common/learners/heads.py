"""Heads: from the features of a clip to logits, as modules that are saved and exported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.learners.cache import CacheHead
from common.learners.cnn import ConvNet
from common.learners.linear import Linear

Floats = NDArray[np.float64]
LARGEST = 1e6
"""Stands for no limit: ONNX clips at finite numbers."""


class LinearHead(nn.Module):
    """A `Linear` as a module."""

    mean: Tensor
    inverse: Tensor
    limit: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, labels: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("inverse", torch.ones(width))
        self.register_buffer("limit", torch.tensor(LARGEST))
        self.register_buffer("weight", torch.zeros(labels, width))
        self.register_buffer("bias", torch.zeros(labels))

    @classmethod
    def of(cls, linear: Linear) -> LinearHead:
        """Convert `linear` to single precision."""
        made = cls(*linear.weight.shape)
        for name in ("mean", "inverse", "weight", "bias"):
            getattr(made, name).copy_(torch.from_numpy(getattr(linear, name)))
        made.limit.fill_(min(linear.limit, LARGEST))
        return made

    def forward(self, features: Tensor) -> Tensor:
        """Logits (…, labels) of features (…, width)."""
        standard = (features - self.mean) * self.inverse
        standard = torch.minimum(torch.maximum(standard, -self.limit), self.limit)
        return standard @ self.weight.T + self.bias

    def arguments(self) -> dict[str, Any]:
        """Arguments of the class."""
        return {"labels": len(self.bias), "width": len(self.mean)}


HEADS: dict[str, type[nn.Module]] = {"linear": LinearHead, "convnet": ConvNet, "cache": CacheHead}
"""Classes of heads by the name that a saved learner states."""


@torch.inference_mode()
def head_logits(head: nn.Module, features: Sequence[NDArray[np.float32]]) -> Floats:
    """(N, labels) logits of clips with features of any lengths."""
    if features[0].ndim == 1:
        return np.asarray(head(torch.from_numpy(np.stack(features))).numpy(), dtype=np.float64)
    return np.stack([head(torch.from_numpy(clip)).numpy() for clip in features]).astype(np.float64)
