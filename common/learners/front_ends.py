"""What a learner hears: front ends that turn the waveform of a clip into features; pretrained encoders among them.

Encoders (CLAP, Whisper, PE-AV) are frozen, and deaf to the level of a clip.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    PeAudioConfig,
    PeAudioFeatureExtractor,
    PeAudioModel,
    PeAudioVideoConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)
from transformers.utils.logging import disable_progress_bar

from common.audio.signal import fixed_windows, levelled, resample
from common.clap.scorer import ClapScorer
from common.classifier.features import checked
from common.errors import DataError
from common.learners.architectures import ARCHITECTURES, architecture
from common.learners.cnn import LogMel
from common.learners.statistics import Statistics
from common.runtime.devices import device
from common.runtime.seeding import numpy_generator

Features = NDArray[np.float32]
COPY_HZ = 8000
"""Rate of the band-limited copy of a clip: nothing is left above 4 kHz."""
_BLOCK = 400


class FrontEnd(Protocol):
    """Features of clips; each clip's depend on no other clip."""

    sample_rate_hz: int

    def __call__(self, waveforms: Sequence[NDArray[np.float32]]) -> list[Features]:
        """Features of mono waveforms (T,): (D,), or (frames, bands).

        Raises DataError: a clip is not mono or not finite.
        """


class Traced:
    """A front end of operations of ONNX alone: a module with `sample_rate_hz` and `shortest` (samples)."""

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


class _Windowed(ABC):
    """Mean of the features of a clip's windows, each computed alone, so that no other clip changes them.

    Raises DataError: the folder holds no such encoder, or not all of it.
    """

    sample_rate_hz: int
    window_length: int

    @torch.inference_mode()
    def __call__(self, waveforms: Sequence[NDArray[np.float32]]) -> list[Features]:
        """Features (D,) of mono waveforms (T,)."""
        found = []
        for index, waveform in enumerate(waveforms):
            clip = levelled(checked(waveform, index))
            windows = [clip] if clip.size <= self.window_length else fixed_windows(clip, self.window_length)
            found.append(torch.stack([self._features(window) for window in windows]).mean(dim=0).cpu().numpy())
        return found

    @abstractmethod
    def _features(self, window: NDArray[np.float32]) -> Tensor:
        """(D,) of a window of at most `window_length` samples."""


class Whisper(_Windowed):
    """Whisper's encoder: its output, averaged over the frames that hold sound."""

    def __init__(self, folder: Path) -> None:
        model, extractor = _loaded(folder, WhisperModel, WhisperFeatureExtractor, "encoder.")
        self.encoder, self.extractor = model.encoder.to(device()), extractor
        self.sample_rate_hz, self.window_length = int(extractor.sampling_rate), int(extractor.n_samples)
        self.frame_length = int(extractor.hop_length * self.encoder.conv1.stride[0] * self.encoder.conv2.stride[0])

    def _features(self, window: NDArray[np.float32]) -> Tensor:
        made = self.extractor(window, sampling_rate=self.sample_rate_hz, return_tensors="pt").input_features
        frames: Tensor = self.encoder(made.to(device())).last_hidden_state[0]
        return frames[: -(-window.size // self.frame_length)].mean(dim=0)


class PeAudio(_Windowed):
    """PE-AV's audio tower: its pooled embedding, in the space that it shares with text."""

    WINDOW_S = 30

    def __init__(self, folder: Path) -> None:
        config = None
        if architecture(folder) == "pe_audio_video":
            config = PeAudioVideoConfig.from_pretrained(folder, local_files_only=True).audio_config
        model, self.extractor = _loaded(folder, PeAudioModel, PeAudioFeatureExtractor, "audio_", config)
        self.encoder, self.head = model.audio_encoder.to(device()), model.audio_head.to(device())
        self.sample_rate_hz = int(self.extractor.sampling_rate)
        self.window_length = self.WINDOW_S * self.sample_rate_hz

    def _features(self, window: NDArray[np.float32]) -> Tensor:
        made = self.extractor(window, sampling_rate=self.sample_rate_hz, padding=False, return_tensors="pt")
        pooled = self.encoder(input_values=made.input_values.to(device()).reshape(1, 1, -1)).pooler_output
        embedding: Tensor = self.head(pooled)[0]
        return embedding


def _loaded(folder: Path, model: Any, extractor: Any, needed: str, config: PeAudioConfig | None = None) -> Any:
    """Model and extractor; weights whose names begin with `needed` must be there."""
    disable_progress_bar()
    try:
        made, told = model.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
        heard = extractor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        title = ARCHITECTURES[architecture(folder)]
        raise DataError(f"cannot load the encoder at {folder} ({title}): {error}; copy the folder again") from error
    if lacking := sorted(name for name in told["missing_keys"] if name.startswith(needed)):
        raise DataError(f"the encoder at {folder} lacks weights: {', '.join(lacking[:5])}; copy the folder again")
    return made.eval(), heard


OPENERS: dict[str, Callable[[Path], FrontEnd]] = {
    "clap": Clap,
    "pe_audio": PeAudio,
    "pe_audio_video": PeAudio,
    "whisper": Whisper,
}
"""Front end of each of the `ARCHITECTURES`."""


def open_encoder(folder: Path) -> FrontEnd:
    """The encoder of a folder. Raises DataError: it holds none that is supported, or not all of it."""
    return OPENERS[architecture(folder)](folder)


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


def recorded_copies(waveform: Features, sample_rate_hz: int, clip_id: str) -> list[Features]:
    """Copies of a mono waveform (T,): without its upper band, with a noise floor, and after some silence.

    `clip_id` is the seed: whoever copies a clip gets the same copies.
    """
    generator = numpy_generator(0, "recorded", clip_id)
    narrow = resample(resample(waveform, sample_rate_hz, COPY_HZ), COPY_HZ, sample_rate_hz)
    silence = np.zeros(int(sample_rate_hz * generator.uniform(0.05, 0.3)), np.float32)
    return [narrow.astype(np.float32), _with_floor(waveform, generator), np.concatenate([silence, waveform])]


def with_copies(hears: FrontEnd, waveform: Features, clip_id: str) -> list[Features]:
    """Features of a mono waveform (T,) at the front end's rate, then those of its recorded copies."""
    return hears([waveform, *recorded_copies(waveform, hears.sample_rate_hz, clip_id)])


def _with_floor(waveform: Features, generator: np.random.Generator) -> Features:
    """Noise between white and pink, 25 to 50 dB below the loudest 400 samples."""
    spectrum = np.fft.rfft(generator.standard_normal(waveform.size))
    spectrum *= np.arange(1.0, spectrum.size + 1) ** -generator.uniform(0, 0.5)
    noise = np.fft.irfft(spectrum, waveform.size)
    blocks = np.add.reduceat(waveform.astype(np.float64) ** 2, np.arange(0, waveform.size, _BLOCK)) / _BLOCK
    level = np.sqrt(blocks.max()) * 10 ** (-generator.uniform(25, 50) / 20) / (noise.std() + 1e-12)
    return np.asarray(waveform + level * noise, dtype=np.float32)
