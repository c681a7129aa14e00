"""A learner that is no transformers model: from the waveform of a clip to probabilities, and its directory.

The directory holds `learner.json` and `weights.safetensors`, no code and no pickle.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from common.classifier.inference import probabilities
from common.errors import DataError
from common.learners.cache import CacheHead
from common.learners.cnn import ConvNet
from common.learners.front_ends import MODULES, PRETRAINED, Features, FrontEnd, front_end, open_encoder
from common.learners.linear import Linear
from common.storage import read_json, write_json

RECORD, WEIGHTS = "learner.json", "weights.safetensors"
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
    def of(cls, linear: Linear) -> Self:
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


@dataclass(frozen=True)
class LearnerModel:
    """A front end and a head, whose logits are divided by a temperature, so that probabilities are calibrated.

    Without `pretrained`, the front end where it is one of `PRETRAINED`, features are given, not waveforms.
    """

    learner: str
    front_end: str
    head: nn.Module
    labels: tuple[str, ...]
    multi_label: bool
    temperature: float = 1.0
    pretrained: FrontEnd | None = None

    @property
    def encoder(self) -> FrontEnd:
        """The front end. Raises DataError: it is a pretrained one, which is not there."""
        if self.front_end not in PRETRAINED:
            return front_end(self.front_end)
        if self.pretrained is None:
            raise DataError(
                f"the learner {self.learner} hears through a pretrained model, and none was given; expected the folder "
                f"{self.front_end}/ in its directory, or the folder of the run's model"
            )
        return self.pretrained

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the waveforms."""
        return self.encoder.sample_rate_hz

    def of_features(self, features: Sequence[Features]) -> Floats:
        """(N, labels) probabilities of clips whose features are computed."""
        if not features:
            return np.zeros((0, len(self.labels)))
        return probabilities(head_logits(self.head, features) / self.temperature, self.multi_label)

    def of_waveforms(self, waveforms: Sequence[NDArray[np.float32]]) -> Floats:
        """(N, labels) probabilities of mono waveforms (T,) at `sample_rate_hz`."""
        return self.of_features(self.encoder(waveforms))

    def save(self, folder: Path) -> None:
        """Write the directory."""
        kind = next(name for name, known in HEADS.items() if type(self.head) is known)
        save_file({name: value.contiguous() for name, value in self.head.state_dict().items()}, folder / WEIGHTS)
        record = {
            "learner": self.learner,
            "front_end": self.front_end,
            "head": {"kind": kind, **self.head.arguments()},  # type: ignore[operator]
            "labels": list(self.labels),
            "multi_label": self.multi_label,
            "temperature": self.temperature,
            "sample_rate_hz": self.sample_rate_hz,
        }
        write_json(folder / RECORD, record)


def hears_through(folder: Path) -> str | None:
    """Which of `PRETRAINED` is the front end of the learner in the folder; None = none, or no learner."""
    name = read_json(folder / RECORD).get("front_end") if (folder / RECORD).is_file() else None
    return name if name in PRETRAINED else None


def load_learner(folder: Path) -> LearnerModel:
    """Load a learner's directory, with the pretrained front end where a sub-folder of its name holds one.

    Raises DataError: it holds none, or its files are damaged or do not fit each other.
    """
    try:
        record = read_json(folder / RECORD)
        arguments = dict(record["head"])
        head = HEADS[arguments.pop("kind")](**arguments)
        head.load_state_dict(load_file(folder / WEIGHTS))
        labels = tuple(str(label) for label in record["labels"])
        if len(labels) != arguments["labels"] or record["front_end"] not in (*MODULES, *PRETRAINED):
            raise ValueError(f"{len(labels)} labels and the front end {record['front_end']!r} do not fit the weights")
        temperature = float(record["temperature"])
        multi_label = bool(record["multi_label"])
        model = LearnerModel(record["learner"], record["front_end"], head.eval(), labels, multi_label, temperature)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise DataError(f"cannot load the classifier at {folder}: {error}; make it again or copy it whole") from error
    own = folder / model.front_end
    return replace(model, pretrained=open_encoder(own)) if model.front_end in PRETRAINED and own.is_dir() else model
