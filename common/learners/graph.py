"""A classifier as one module of operations that ONNX has: the waveform of a clip in, its probabilities out.

Parts state `shortest`, samples of the shortest waveform they take, and those that hear windows their `window_s` in
seconds. No size of a clip may become a Python number in them: a traced graph would keep that of the example.
"""

import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from common.audio.mel import MelPower
from common.audio.signal import LEVEL_DBFS, MAX_GAIN_DB, resample
from common.clap.scorer import ClapScorer
from common.classifier.features import FRAME_LENGTH, LogMel
from common.classifier.model import Classifier
from common.contracts.training import Member
from common.errors import ConfigError
from common.learners.calibration import LEAST
from common.learners.front_ends import Clap, FrontEnd, Traced, Whisper
from common.learners.model import LearnerModel
from common.learners.opened import Opened, OpenedBlend, OpenedLearner, OpenedTransformer
from common.learners.statistics import places

REACH = 400
"""Samples at the lower rate, on either side, that resampling hears."""


class WaveformLogits(nn.Module):
    """Logits (labels,) of one mono waveform (T,): the mean over its fixed windows, as `feature_logits` gives them."""

    _frame: Tensor
    _spectra: Tensor
    _row: Tensor

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        assert isinstance(classifier.front_end, LogMel)
        self.front_end, self.model = classifier.front_end, classifier.model
        self.shortest = self.front_end.frame_length
        self.window_s = self.front_end.max_length * self.front_end.hop_length / self.front_end.sample_rate_hz
        # The spectrum is a linear map, so that of the unit matrix is its matrix.
        unit = torch.eye(self.front_end.frame_length, dtype=torch.float64)
        self.register_buffer(
            "_spectra", torch.view_as_real(self.front_end.spectrum(unit)).permute(2, 0, 1).contiguous()
        )
        self.register_buffer("_frame", torch.arange(self.front_end.frame_length))
        self.register_buffer("_row", torch.arange(self.front_end.max_length))

    def forward(self, waveform: Tensor) -> Tensor:
        """Logits of a waveform, T ≥ `shortest`."""
        windows = self._windows(self._features(waveform))
        logits: Tensor = self.model(**self.front_end.inputs(windows)).logits
        return logits.mean(dim=0)

    def _features(self, waveform: Tensor) -> Tensor:
        """(frames, bins)."""
        starts = places(waveform)[: 1 - self.front_end.frame_length : self.front_end.hop_length]
        frames = self.front_end.levelled(waveform)[starts[:, None] + self._frame]
        return self.front_end.normalised(self.front_end.mel_power(frames @ self._spectra[0], frames @ self._spectra[1]))

    def _windows(self, features: Tensor) -> Tensor:
        """(windows, max_length, bins)."""
        length = self.front_end.max_length
        starts = _window_starts(places(features[:, 0]), length)
        silence = features.new_full((length, features.shape[1]), self.front_end.pad_value)
        return torch.cat([features, silence])[starts[:, None] + self._row]


class ClapEmbedding(nn.Module):
    """Embedding (D,) of norm 1 of one mono waveform (T,), as the front end `Clap` gives it."""

    _place: Tensor

    def __init__(self, scorer: ClapScorer) -> None:
        super().__init__()
        # Copied, because tracing turns sizes in it into tensors.
        self.tower = copy.deepcopy(scorer.model.audio_model).cpu()
        self.projection = copy.deepcopy(scorer.model.audio_projection).cpu()
        features = scorer.features
        self.features, self.padding, self.length = features, features.padding, features.window_length
        self.power = MelPower(features.window.double().numpy(), features.hop_length, features.filters)
        self.sample_rate_hz, self.shortest = scorer.sample_rate_hz, FRAME_LENGTH
        self.window_s = self.length / self.sample_rate_hz
        self.register_buffer("_place", torch.arange(self.length))

    def forward(self, waveform: Tensor) -> Tensor:
        """The embedding of a waveform, T ≥ `shortest`."""
        features = self.features.decibel(_centred(self.power, self._windows(_levelled(waveform))))
        # No window is marked as longer than the input, see `ClapFeatures`.
        longer = torch.zeros_like(features[:, 0, 0, :1], dtype=torch.bool)
        projected = self.projection(self.tower(input_features=features, is_longer=longer).pooler_output)
        total = nn.functional.normalize(projected, dim=-1).double().sum(dim=0)
        return nn.functional.normalize(total, dim=0).float()

    def _windows(self, clip: Tensor) -> Tensor:
        """(windows, length), as `ClapFeatures.windows`."""
        place = places(clip)
        count = place[-1] + 1
        rows = _window_starts(place, self.length)[:, None] + self._place
        windows = clip[rows % count]
        if self.padding == "repeat":
            return windows
        whole = (self.length // count).clamp_min(1) if self.padding == "repeatpad" else 1
        return windows * (rows < whole * count)


class WhisperEmbedding(nn.Module):
    """Features (D,) of one mono waveform (T,), as the front end `Whisper` gives them."""

    _place: Tensor

    def __init__(self, hears: Whisper) -> None:
        super().__init__()
        extractor = hears.extractor
        # Copied, because tracing turns sizes in it into tensors.
        self.encoder = copy.deepcopy(hears.encoder).cpu()
        window = torch.hann_window(extractor.n_fft).double().numpy()
        self.power = MelPower(window, extractor.hop_length, torch.from_numpy(extractor.mel_filters))
        self.length, self.frame_length = hears.window_length, hears.frame_length
        self.sample_rate_hz, self.shortest = hears.sample_rate_hz, FRAME_LENGTH
        self.window_s = self.length / self.sample_rate_hz
        self.register_buffer("_place", torch.arange(self.length))

    def forward(self, waveform: Tensor) -> Tensor:
        """The features of a waveform, T ≥ `shortest`."""
        clip = _levelled(waveform)
        place = places(clip)
        count = place[-1] + 1
        rows = _window_starts(place, self.length)[:, None] + self._place
        # The extractor drops the last frame, and all that is 80 dB below the loudest bin of a window.
        levels = _centred(self.power, clip[rows % count] * (rows < count))[:, :-1].clamp_min(1e-10).log10()
        levels = torch.maximum(levels, levels.amax(dim=(1, 2), keepdim=True) - 8.0)
        states = self.encoder(((levels + 4.0) / 4.0).transpose(1, 2)).last_hidden_state
        heard = self._place[: states.shape[1]] * self.frame_length < count
        return (states * heard[:, None]).sum(dim=1).mean(dim=0) / heard.sum()


class LearnerLogits(nn.Module):
    """Logits (labels,) of one mono waveform (T,), divided by the learner's temperature; raises as `answer`."""

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


class Resampling(nn.Module):
    """A mono waveform (T,) at a rate that is `factor` times lower, as `common.audio.signal.resample`, to rounding."""

    _taps: Tensor

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        # Resampling is a linear map, so that its answers to single samples are its filter.
        units = np.zeros((factor, 2 * factor * REACH), np.float32)
        units[np.arange(factor), factor * REACH - np.arange(factor)] = 1
        self.register_buffer("_taps", torch.from_numpy(resample(units, factor, 1).T.ravel()).flip(0)[None, None])

    def forward(self, waveform: Tensor) -> Tensor:
        """The waveform at the lower rate, of one sample at least."""
        reach = self.factor * REACH
        padded = nn.functional.pad(waveform[None, None], (reach - 1, reach + self.factor))
        made = nn.functional.conv1d(padded, self._taps, stride=self.factor)[0, 0]
        count = ((places(waveform)[-1] + 1).double() / self.factor).round().long().clamp_min(1)
        return made.index_select(0, torch.nonzero(places(made) < count)[:, 0])


class Part(nn.Module):
    """Logits (labels,) of one mono waveform (T,) of any length, at `factor` times the rate of `logits`."""

    def __init__(self, logits: nn.Module, factor: int) -> None:
        super().__init__()
        self.resampled, self.logits = Resampling(factor) if factor > 1 else nn.Identity(), logits
        self.shortest = factor * int(logits.shortest)  # type: ignore[arg-type]
        self.window_s = getattr(logits, "window_s", 0.0)

    def forward(self, waveform: Tensor) -> Tensor:
        """Logits of a waveform."""
        found: Tensor = self.logits(_filled(self.resampled(waveform), self.logits.shortest))  # type: ignore[arg-type]
        return found


class Answer(nn.Module):
    """Probabilities (labels,) of one mono waveform (T,) of any length: the weighted mean of those of the members.

    Without members these are the only part's as they are. `window_s` is that of the longest window, or 2.
    """

    def __init__(self, parts: list[Part], members: list[Member], multi_label: bool) -> None:
        super().__init__()
        self.parts, self.members, self.multi_label = nn.ModuleList(parts), members, multi_label
        self.shortest = max(part.shortest for part in parts)
        self.window_s = max(part.window_s for part in parts) or 2.0

    def forward(self, waveform: Tensor) -> Tensor:
        """Probabilities of a waveform, float32."""
        found = [self._probabilities(part(waveform).double()) for part in self.parts]
        if not self.members:
            return found[0].float()
        tempered = [self._tempered(*each) for each in zip(found, self.members, strict=True)]
        return (torch.stack(tempered).sum(dim=0) / sum(member.weight for member in self.members)).float()

    def _probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=0)

    def _tempered(self, probabilities: Tensor, member: Member) -> Tensor:
        """As `calibration.tempered`, in double precision like there, times the weight."""
        kept = probabilities.clamp(LEAST, 1 - LEAST)
        logits = kept.log() - (1 - kept).log() if self.multi_label else kept.log()
        return member.weight * self._probabilities(logits / member.temperature)


def _filled(waveform: Tensor, length: int) -> Tensor:
    """The waveform, with zeros up to `length` samples."""
    filled = torch.cat([waveform, waveform.new_zeros(length)])
    count = torch.ones_like(waveform, dtype=torch.int64).sum().clamp_min(length)
    return filled.index_select(0, torch.nonzero(places(filled) < count)[:, 0])


def answer(folder: Path, opened: Opened) -> Answer:
    """The module of an opened classifier, at the highest of its rates.

    Raises:
        ConfigError: the classifier, or a member, takes waveforms through transformers' own extractor, or one of its
            rates is no whole fraction of the highest.
        DataError: it hears through a pretrained model, which is not there.
    """
    *lower, highest = opened.sample_rates_hz
    if any(highest % rate for rate in lower):
        rates = " and ".join(map(str, opened.sample_rates_hz))
        raise ConfigError(
            f"{folder} is a blend whose members hear clips at {rates} Hz; in a graph each rate is a whole fraction of "
            "the highest: export the members, each a classifier of its own, or use `make classify`"
        )
    members = opened.members if isinstance(opened, OpenedBlend) else ()
    singles = [each for each, _ in members] or [opened]
    parts = [Part(_logits(folder, each), highest // each.sample_rates_hz[0]) for each in singles]
    return Answer(parts, [member for _, member in members], opened.multi_label).eval()


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


def _window_starts(values: Tensor, length: int) -> Tensor:
    """First places of the fixed windows of `length` places, as `fixed_window_starts`, for all `places` (T,)."""
    window = values[::length] // length
    spare = (values[-1] + 1 - length).clamp_min(0).double()
    return (window.double() * (spare / window[-1].clamp_min(1).double())).round().long()


def _levelled(waveform: Tensor) -> Tensor:
    """As `common.audio.signal.levelled`."""
    power = waveform.double().square().mean()
    # The limit of the gain also holds for silence.
    gain_db = (LEVEL_DBFS - 10 * power.clamp_min(1e-30).log10()).clamp_max(MAX_GAIN_DB)
    return waveform * torch.pow(10.0, gain_db / 20).float()


def _centred(power: MelPower, windows: Tensor) -> Tensor:
    """(B, frames, mel_bins) of windows (B, window_length), with the frames of a centred `torch.stft`."""
    half = power.size // 2
    return power(nn.functional.pad(windows[:, None], (half, half), mode="reflect")[:, 0])
