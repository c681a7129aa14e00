"""What a learner hears: front ends that turn the waveform of a clip into features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from common.audio.signal import levelled
from common.clap.scorer import ClapScorer
from common.classifier.features import checked
from common.learners.cnn import LogMel
from common.learners.statistics import Statistics

Features = NDArray[np.float32]


class FrontEnd(Protocol):
    """Features of clips; each clip's depend on no other clip."""

    sample_rate_hz: int

    def __call__(self, waveforms: Sequence[NDArray[np.float32]]) -> list[Features]:
        """Features of mono waveforms (T,): (D,), or (frames, bands).

        Raises DataError: a clip is not mono or not finite.
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


class Clap:
    """The audio tower of a CLAP, which hears every clip at one level: embeddings (D,) of norm 1.

    Raises DataError: it holds none.
    """

    def __init__(self, folder: Path) -> None:
        # A clip and its recorded copies come together; a larger batch would mostly be padding.
        self.scorer = ClapScorer.load(folder, batch_size=4)
        self.sample_rate_hz = self.scorer.sample_rate_hz

    def __call__(self, waveforms: Sequence[NDArray[np.float32]]) -> list[Features]:
        """Embeddings of mono waveforms (T,)."""
        clips = (levelled(checked(waveform, index)) for index, waveform in enumerate(waveforms))
        return list(self.scorer.embed_audio(clips, self.sample_rate_hz))


CLAP, ENCODER = "clap", "encoder"
PRETRAINED = (CLAP, ENCODER)
"""Names of front ends with weights, the run's CLAP or an encoder of the settings, and of their folders in the directory
of a learner."""

MODULES: dict[str, Callable[[], nn.Module]] = {"statistics": Statistics, "log_mel": LogMel}
"""Front ends without weights, by name."""


@cache
def front_end(name: str) -> Traced:
    """A front end without weights, by its name in `MODULES`."""
    return Traced(MODULES[name]())
