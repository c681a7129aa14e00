"""Frozen features of a classifier: what its last linear layer sees, and a model whose last layer was fitted to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.classifier.inference import feature_logits
from common.classifier.model import HEAD, Classifier


def embeddings(classifier: Classifier, features: Sequence[Tensor]) -> NDArray[np.float32]:
    """(clips, width) input of the last linear layer, mean over each clip's fixed windows.

    The logits of a clip are the mean over its windows too, so that they are this layer's output for these features.

    Args:
        classifier: its model is put into evaluation mode and left there.
        features: (frames, bins) of each whole clip.
    """
    hook = last_layer(classifier).register_forward_hook(lambda _, inputs, __: inputs[0])
    try:
        rows = feature_logits(classifier, features)
    finally:
        hook.remove()
    return np.asarray(rows.cpu().numpy(), dtype=np.float32)


def last_layer(classifier: Classifier) -> nn.Linear:
    """The last linear layer of the head."""
    head = getattr(classifier.model, HEAD)
    return [layer for layer in [head, *head.modules()] if isinstance(layer, nn.Linear)][-1]


def set_last_layer(classifier: Classifier, weight: NDArray[np.floating], bias: NDArray[np.floating]) -> None:
    """Replace the weights of the last linear layer, (labels, width) and (labels,)."""
    layer = last_layer(classifier)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.asarray(weight, dtype=np.float32)))
        layer.bias.copy_(torch.from_numpy(np.asarray(bias, dtype=np.float32)))
