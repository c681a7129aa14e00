"""What a learner hears: front ends that turn the waveform of a clip into features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from common.classifier.features import checked
from common.learners.cnn import LogMel
from common.learners.statistics import Statistics

Features = NDArray[np.float32]


class FrontEnd(Protocol):
    """Features of clips; each clip's depend on no other clip.

    Attributes:
        sample_rate_hz: rate of the waveforms.
    """

    sample_rate_hz: int

    def __call__(self, waveforms: Sequence[NDArray[np.float32]]) -> list[Features]:
        """Features of mono waveforms (T,): (D,), or (frames, bands).

        Raises:
            DataError: a clip is not mono or not finite.
        """


class Traced:
    """A front end that is a module with operations of ONNX alone.

    Args:
        module: one waveform (T,) to features, with the attributes `sample_rate_hz` and `shortest` (samples).
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module.eval()
        self.sample_rate_hz = int(module.sample_rate_hz)  # type: ignore[arg-type]
        self.shortest = int(module.shortest)  # type: ignore[arg-type]

    @torch.inference_mode()
    def __call__(self, waveforms: Sequence[NDArray[np.float32]]) -> list[Features]:
        """Features of mono waveforms (T,); one shorter than `shortest` is padded with zeros at its end."""
        found = []
        for index, waveform in enumerate(waveforms):
            clip = checked(waveform, index)
            padded = np.pad(clip, (0, max(0, self.shortest - clip.size)))
            found.append(self.module(torch.from_numpy(padded)).numpy())
        return found


MODULES: dict[str, Callable[[], nn.Module]] = {"statistics": Statistics, "log_mel": LogMel}
"""Front ends without weights, by name."""


@cache
def front_end(name: str) -> Traced:
    """A front end without weights, by its name in `MODULES`."""
    return Traced(MODULES[name]())
