"""Front ends of classifiers: log-mel features of the Audio Spectrogram Transformer in torch, and waveforms.

`LogMel` is equal to the NumPy path of transformers' `ASTFeatureExtractor` to 1e-5. DC removal and pre-emphasis
are done per frame there, so features of a window that starts on a hop are rows of the whole clip's
features: a clip is transformed once, and every window is a slice.

An extractor with `LEVEL` among its attributes hears every clip at one level, above a higher floor, so that neither the
level of a recording nor its noise floor decides. transformers keeps these attributes and does not apply them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.audio_utils import mel_filter_bank, window_function
from transformers.models.audio_spectrogram_transformer.feature_extraction_audio_spectrogram_transformer import (
    ASTFeatureExtractor,
)

from common.audio.signal import MAX_GAIN_DB, fixed_window_starts
from common.errors import ConfigError, DataError

FRAME_LENGTH = 400
HOP_LENGTH = 160
LOWEST_HZ = 20
LEVEL = ("peak_dbfs", "floor_db")
"""Attributes of a feature extractor, as in `LevelConfig`."""
WINDOW_S = 10.0
"""Window in seconds of a waveform classifier whose config.json states no `window_s`."""
SUPPORTED = ("ASTFeatureExtractor", "Wav2Vec2FeatureExtractor", "WhisperFeatureExtractor")
_FFT_LENGTH = 512
_PREEMPHASIS = 0.97
_MEL_FLOOR = 1.192092955078125e-07
_CHUNK_FRAMES = 128  # a chunk fits the cache; unchunked, clips of 10 s take 2.5 times as long


class FrontEnd(ABC):
    """Converts waveforms to frames, once per clip, and windows of frames to model inputs.

    Equal front ends give equal frames.
    """

    sample_rate_hz: int
    max_length: int
    pad_value: float
    spectral = False
    """Whether a frame is a spectrum, so that SpecAugment can mask it."""
    frame_length = hop_length = 1
    peak: float | None = None
    """Largest sample to which each clip is scaled; None = clips are heard as they are."""

    @property
    def frames_per_s(self) -> float:
        """Frames of a second."""
        return self.sample_rate_hz / self.hop_length

    @abstractmethod
    def __call__(self, clips: Sequence[np.ndarray], peak: float | None = None) -> list[Tensor]:
        """Frames (frames, bins) float32 of each whole clip, mono (T,), full scale ±1, at `sample_rate_hz`.

        With `peak`, `clips` are parts of a clip whose largest sample this is. Raises DataError: a clip is not
        one-dimensional or not finite.
        """

    @abstractmethod
    def inputs(self, windows: Tensor) -> dict[str, Tensor]:
        """Keyword arguments of the model for windows (B, max_length, bins)."""

    def _identity(self) -> tuple[float | None, ...]:
        return self.sample_rate_hz, self.max_length

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrontEnd) and type(self) is type(other) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())


class LogMel(FrontEnd):
    """Normalised log-mel features (frames, num_mel_bins) of waveforms; frames = 1 + (T - 400) // 160.

    Attributes:
        max_length: frames in the model's window.
        pad_value: value of a padded frame: 0 before normalisation, as in `ASTFeatureExtractor`.
        silence: value of digital silence.
        decibel: difference that a decibel makes.
    """

    spectral = True
    frame_length, hop_length = FRAME_LENGTH, HOP_LENGTH

    def __init__(self, extractor: ASTFeatureExtractor) -> None:
        self.sample_rate_hz = int(extractor.sampling_rate)
        self.max_length = int(extractor.max_length)
        self.num_mel_bins = int(extractor.num_mel_bins)
        normalize = bool(extractor.do_normalize)
        self._mean = float(extractor.mean) if normalize else 0.0
        self._scale = 2 * float(extractor.std) if normalize else 1.0
        peak_dbfs, floor_db = (getattr(extractor, name, None) for name in LEVEL)
        self.peak = None if peak_dbfs is None else 10 ** (peak_dbfs / 20)
        self._floor = _MEL_FLOOR if floor_db is None else max(_MEL_FLOOR, 10 ** (floor_db / 10))
        self.pad_value = -self._mean / self._scale
        self.silence = (math.log(self._floor) - self._mean) / self._scale
        self.decibel = math.log(10) / 10 / self._scale
        filters = mel_filter_bank(
            num_frequency_bins=_FFT_LENGTH // 2 + 1,
            num_mel_filters=self.num_mel_bins,
            min_frequency=LOWEST_HZ,
            max_frequency=self.sample_rate_hz // 2,
            sampling_rate=self.sample_rate_hz,
            norm=None,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
        # Single precision suffices for sums of positive numbers, unlike for the transform before them.
        self._filters = torch.from_numpy(filters).float()
        window = torch.from_numpy(window_function(FRAME_LENGTH, "hann", periodic=False))
        # Pre-emphasis and window in one: y[t] = w[t] x[t] - 0.97 w[t] x[t-1]; Kaldi takes x[-1] = x[0].
        self._window = window.clone()
        self._window[0] *= 1 - _PREEMPHASIS
        self._previous_window = -_PREEMPHASIS * window[1:]

    def __call__(self, clips: Sequence[np.ndarray], peak: float | None = None) -> list[Tensor]:
        """See `FrontEnd`."""
        # Each clip is transformed by itself, so that its bits do not depend on its neighbours.
        return [self._transform(torch.from_numpy(checked(clip, index)), peak) for index, clip in enumerate(clips)]

    def inputs(self, windows: Tensor) -> dict[str, Tensor]:
        """Keyword arguments of the model for windows (B, max_length, num_mel_bins)."""
        return {"input_values": windows}

    def _identity(self) -> tuple[float | None, ...]:
        sizes = self.sample_rate_hz, self.max_length, self.num_mel_bins
        return *sizes, self._mean, self._scale, self.peak, self._floor

    def _transform(self, waveform: Tensor, peak: float | None) -> Tensor:
        frames = self.levelled(waveform, peak).unfold(0, FRAME_LENGTH, HOP_LENGTH)
        spectra = (self.spectrum(chunk) for chunk in frames.split(_CHUNK_FRAMES))
        mel = torch.cat([self.mel_power(spectrum.real, spectrum.imag) for spectrum in spectra])
        return self.normalised(mel)

    def levelled(self, waveform: Tensor, peak: float | None = None) -> Tensor:
        """A waveform (T,) in double precision, scaled to the level that the model hears; by `MAX_GAIN_DB` at most."""
        # Double precision: in single precision a quiet band beside a loud one misses the 1e-5.
        waveform = waveform.double()
        if self.peak is None:
            return waveform
        found = waveform.abs().max() if peak is None else torch.tensor(peak, dtype=torch.float64)
        return waveform * (self.peak / found.clamp_min(self.peak * 10 ** (-MAX_GAIN_DB / 20)))

    def spectrum(self, frames: Tensor) -> Tensor:
        """Complex spectra (N, 257) of frames (N, 400), double precision; a linear map."""
        frames = frames - frames.mean(dim=1, keepdim=True)
        windowed = frames * self._window
        windowed[:, 1:].addcmul_(frames[:, :-1], self._previous_window)
        return torch.fft.rfft(windowed, n=_FFT_LENGTH)

    def mel_power(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """Energies (N, num_mel_bins) of the parts (N, 257) of spectra."""
        power = real.square().addcmul_(imaginary, imaginary)
        return power.float() @ self._filters

    def normalised(self, mel: Tensor) -> Tensor:
        """Features (N, num_mel_bins) of mel energies, which are overwritten."""
        return mel.clamp_min_(self._floor).log_().sub_(self._mean).div_(self._scale)


def checked(clip: np.ndarray, index: int) -> np.ndarray:
    """Validate a mono clip (T,) and return it as float32, padded to a frame of 400 samples.

    Raises DataError: the clip is not one-dimensional or not finite; `index` names it in the message.
    """
    if clip.ndim != 1:
        raise DataError(f"clip {index} has the shape {clip.shape}; expected mono samples (T,): mix the channels first")
    if not np.isfinite(clip).all():
        raise DataError(f"clip {index} holds NaN or infinite samples; remove it or decode it again")
    clip = np.ascontiguousarray(clip, dtype=np.float32)
    return clip if clip.size >= FRAME_LENGTH else np.pad(clip, (0, FRAME_LENGTH - clip.size))


def fit_length(features: Tensor, length: int, pad_value: float) -> Tensor:
    """Cut or pad (frames, bins) features at the end to `length` frames."""
    missing = length - features.shape[0]
    if missing <= 0:
        return features[:length]
    return torch.nn.functional.pad(features, (0, 0, 0, missing), value=pad_value)


def fixed_window_features(features: Tensor, length: int, pad_value: float) -> Tensor:
    """All fixed windows (windows, length, bins) of a clip (frames, bins), for evaluation.

    The fewest windows that cover the clip, evenly spaced, so that only a clip shorter than one window is padded.
    """
    frames = features.shape[0]
    if frames <= length:
        return fit_length(features, length, pad_value)[None]
    return torch.stack([features[start : start + length] for start in fixed_window_starts(frames, length)])


def random_window_features(features: Tensor, length: int, pad_value: float, position: float) -> Tensor:
    """One window (length, bins) of a clip, for training; `position` in [0, 1) of the range of possible starts."""
    start = int(position * max(1, features.shape[0] - length + 1))
    return fit_length(features[start : start + length], length, pad_value)


class Waveforms(FrontEnd):
    """Front end of models on waveforms (wav2vec 2.0, HuBERT, WavLM …) and on spectrograms of 30 s (Whisper).

    A frame is a sample; the model's own extractor processes each window, cut at the clip's end, when the
    model is called, so that normalisation, padding and attention mask are those of transformers.
    """

    pad_value = float("nan")  # marks padding, and never reaches a model

    def __init__(self, extractor: Any, window_s: float) -> None:
        self.sample_rate_hz = int(extractor.sampling_rate)
        self.max_length = int(getattr(extractor, "n_samples", 0)) or round(window_s * self.sample_rate_hz)
        self._extractor = extractor

    def __call__(self, clips: Sequence[np.ndarray], peak: float | None = None) -> list[Tensor]:
        """See `FrontEnd`."""
        return [torch.from_numpy(checked(clip, index))[:, None] for index, clip in enumerate(clips)]

    def inputs(self, windows: Tensor) -> dict[str, Tensor]:
        """Output of the extractor for windows (B, max_length, 1), NaN after a clip's end."""
        waveforms = [window[~window.isnan()].numpy() for window in windows[:, :, 0].cpu()]
        settings = {"sampling_rate": self.sample_rate_hz, "max_length": self.max_length, "padding": "max_length"}
        return dict(self._extractor(waveforms, **settings, truncation=True, return_tensors="pt"))


def front_end_of(extractor: Any, window_s: float) -> FrontEnd:
    """Front end for a checkpoint's feature extractor.

    Raises ConfigError: the extractor is of a kind that is not supported.
    """
    if isinstance(extractor, ASTFeatureExtractor):
        return LogMel(extractor)
    found = type(extractor).__name__
    if found not in SUPPORTED:
        raise ConfigError(
            f"the checkpoint's feature extractor is {found}; expected one of {', '.join(SUPPORTED)}: name a checkpoint "
            "of the Audio Spectrogram Transformer, wav2vec 2.0, HuBERT, WavLM, Data2Vec, SEW, UniSpeech or Whisper in "
            "pretrain_classifier.checkpoint"
        )
    return Waveforms(extractor, window_s)
