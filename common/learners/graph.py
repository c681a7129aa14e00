"""A classifier as one module for ONNX: the waveform of a clip in, its probabilities out."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from common.classifier.graph import WaveformLogits, places
from common.errors import ConfigError
from common.learners.calibration import LEAST
from common.learners.clap_graph import ClapEmbedding
from common.learners.encoders import Whisper
from common.learners.front_ends import Clap, FrontEnd, Traced
from common.learners.model import LearnerModel
from common.learners.opened import Opened, OpenedBlend, OpenedLearner, OpenedTransformer
from common.learners.whisper_graph import WhisperEmbedding


class LearnerLogits(nn.Module):
    """Logits (labels,) of one mono waveform (T,), divided by the learner's temperature.

    Attributes:
        window_s: seconds of a window; 0 where the front end hears a clip whole.

    Raises:
        ConfigError: the learner hears through a PE-AV.
        DataError: the learner hears through a pretrained model, which is not there.
    """

    def __init__(self, model: LearnerModel) -> None:
        super().__init__()
        module = _module(model.encoder, model.learner)
        self.front_end, self.head, self.temperature = module, model.head, model.temperature
        self.shortest, self.window_s = module.shortest, getattr(module, "window_s", 0.0)

    def forward(self, waveform: Tensor) -> Tensor:
        """Logits of a waveform, T ≥ `shortest`."""
        logits: Tensor = self.head(self.front_end(waveform)).double() / self.temperature
        return logits


def _module(hears: FrontEnd, learner: str) -> nn.Module:
    if isinstance(hears, Clap):
        return ClapEmbedding(hears.scorer)
    if isinstance(hears, Whisper):
        return WhisperEmbedding(hears)
    if isinstance(hears, Traced):
        return hears.module
    raise ConfigError(
        f"the learner {learner} hears through {type(hears).__name__}, which takes clips through transformers' own "
        "extractor; of pretrained encoders CLAP and Whisper are exported: use `make classify`"
    )


class Answer(nn.Module):
    """Probabilities (labels,) of one mono waveform (T,) of any length: the mean of those of the members.

    Args:
        members: each gives logits of a waveform of at least its `shortest` samples; shorter ones get zeros at the end.
        temperatures: of each; None = the only member's probabilities as they are.

    Attributes:
        shortest: samples to which a shorter waveform is filled.
        window_s: seconds of the longest window of a member that hears windows; 2 where none does.
    """

    def __init__(self, members: list[nn.Module], temperatures: list[float] | None, multi_label: bool) -> None:
        super().__init__()
        self.members, self.temperatures, self.multi_label = nn.ModuleList(members), temperatures, multi_label
        self.shortest = max(int(member.shortest) for member in members)  # type: ignore[arg-type]
        self.window_s = max([getattr(member, "window_s", 0.0) for member in members]) or 2.0

    def forward(self, waveform: Tensor) -> Tensor:
        """Probabilities of a waveform, float32."""
        found = [
            self._probabilities(member(_filled(waveform, member.shortest)).double())  # type: ignore[arg-type]
            for member in self.members
        ]
        if self.temperatures is not None:
            found = [self._tempered(one, t) for one, t in zip(found, self.temperatures, strict=True)]
        return torch.stack(found).mean(dim=0).float()

    def _probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=0)

    def _tempered(self, probabilities: Tensor, temperature: float) -> Tensor:
        """As `calibration.tempered`, in double precision like there."""
        kept = probabilities.clamp(LEAST, 1 - LEAST)
        logits = kept.log() - (1 - kept).log() if self.multi_label else kept.log()
        return self._probabilities(logits / temperature)


def _filled(waveform: Tensor, length: int) -> Tensor:
    """The waveform, with zeros up to `length` samples; its size may not become a Python number."""
    filled = torch.cat([waveform, waveform.new_zeros(length)])
    count = torch.ones_like(waveform, dtype=torch.int64).sum().clamp_min(length)
    return filled.index_select(0, torch.nonzero(places(filled) < count)[:, 0])


def answer(folder: Path, opened: Opened) -> Answer:
    """The module of an opened classifier.

    Args:
        opened: all members of a blend hear clips at one rate.

    Raises:
        ConfigError: the classifier, or a member, takes waveforms through transformers' own extractor, or members hear
            clips at several rates.
        DataError: it hears through a pretrained model, which is not there.
    """
    if not isinstance(opened, OpenedBlend):
        return Answer([_logits(folder, opened)], None, opened.multi_label).eval()
    if len(opened.sample_rates_hz) > 1:
        rates = " and ".join(map(str, opened.sample_rates_hz))
        raise ConfigError(
            f"{folder} is a blend whose members hear clips at {rates} Hz; a graph takes one rate: export the members, "
            "each a classifier of its own, or use `make classify`"
        )
    members = [_logits(folder, member) for member, _ in opened.members]
    return Answer(members, [temperature for _, temperature in opened.members], opened.multi_label).eval()


def _logits(folder: Path, opened: Opened) -> nn.Module:
    if isinstance(opened, OpenedLearner):
        return LearnerLogits(opened.model)
    assert isinstance(opened, OpenedTransformer)
    if opened.classifier.front_end.spectral:
        return WaveformLogits(opened.classifier)
    raise ConfigError(
        f"{folder} holds a {type(opened.classifier.model).__name__}, which takes waveforms through transformers' own "
        "extractor; only learners and classifiers on AST's spectrograms are exported: use `make classify`"
    )
