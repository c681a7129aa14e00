"""A head that needs no training: what CLAP says of each label's text, and what labelled clips near by are called.

As in Tip-Adapter (arXiv 2207.09519) and the Treff adapter (arXiv 2305.17719), without their fine-tuning.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit
from torch import Tensor, nn

from common.clap.scorer import ClapScorer
from common.records.text import label_prompts

Floats = NDArray[np.float64]


class LabelTexts(NamedTuple):
    """Embeddings (labels, D) of `template_caption`, and means over all of `label_prompts`, both rows of norm 1."""

    plain: Floats
    several: Floats
    scale: float


class CacheHead(nn.Module):
    """Logits from similarities to the labels' texts and to labelled clips."""

    text: Tensor
    bias: Tensor
    keys: Tensor
    values: Tensor
    sharpness: Tensor

    def __init__(self, labels: int, width: int, clips: int) -> None:
        super().__init__()
        self.register_buffer("text", torch.zeros(labels, width))
        self.register_buffer("bias", torch.zeros(labels))
        self.register_buffer("keys", torch.zeros(clips, width))
        self.register_buffer("values", torch.zeros(clips, labels))
        self.register_buffer("sharpness", torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """Logits (…, labels) of embeddings (…, width) of norm 1."""
        near = (self.sharpness * (features @ self.keys.T - 1)).exp()
        return features @ self.text.T + self.bias + near @ self.values

    def arguments(self) -> dict[str, Any]:
        """Arguments of the class."""
        clips, labels = self.values.shape
        return {"labels": labels, "width": self.keys.shape[1], "clips": clips}


def label_texts(scorer: ClapScorer, labels: Sequence[str]) -> LabelTexts:
    """Embed the labels in several wordings. Raises DataError: a label is longer than the CLAP reads."""
    wordings = [label_prompts(label) for label in labels]
    rows = scorer.embed_text([text for texts in wordings for text in texts]).astype(np.float64)
    rows = rows.reshape(len(labels), -1, scorer.dim)
    means = rows.mean(axis=1)
    several = means / np.linalg.norm(means, axis=1, keepdims=True).clip(1e-12)
    return LabelTexts(rows[:, 0], several, float(scorer.model.logit_scale_a.detach().exp()))


def fit_cache(
    features: NDArray[np.floating],
    targets: Floats,
    weights: Floats,
    texts: Floats,
    scale: float,
    share: float,
    sharpness: float,
    multi_label: bool,
) -> CacheHead:
    """Make the head from labelled clips.

    A label's logit is `scale` times the mean, by `share`, of the similarity to its text and of the sum of
    exp(-sharpness (1 - similarity)) over its clips. Similarities to texts are relative to those of the labelled clips:
    some texts are near to any sound. A label without clips has its text alone.

    Where labels are independent, a clip without the label counts against it, and the logit of an average clip is the
    log odds of the label.

    Args:
        features: (N, D) of norm 1, with `targets` (N, labels) 1 where a clip has the label, and `weights` (N,) above 0.
        texts: (labels, D) of norm 1.
        share: of the labelled clips, in [0, 1]; with 0 clips do not enter where labels exclude each other.
        sharpness: how fast a clip's say falls with its distance, above 0.
    """
    keys = np.asarray(features, dtype=np.float64)
    part = weights / weights.sum()
    rates = part @ targets
    if multi_label:
        least = 0.5 / len(keys)
        bias = logit(rates.clip(least, 1 - least)) - scale * (1 - share) * (texts @ (part @ keys))
        values = targets - rates
    else:
        # Each label counts equally, however many clips it has.
        means = (part[:, None] * targets).T[rates > 0] @ keys / rates[rates > 0, None]
        bias = -scale * (1 - share) * (texts @ means.mean(axis=0)) if share else np.zeros(len(texts))
        values = targets
    labels, width = texts.shape
    values = scale * share * labels * part[:, None] * values
    head = CacheHead(labels, width, len(keys))
    for name, filling in {"text": scale * (1 - share) * texts, "bias": bias, "keys": keys, "values": values}.items():
        getattr(head, name).copy_(torch.from_numpy(filling))
    head.sharpness.fill_(sharpness)
    return head
