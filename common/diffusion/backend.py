"""Stable Audio behind a small interface: encode, condition, predict, decode.

The rest of the program sees only this class; another text-to-audio model is another class with
these methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from diffusers.pipelines.stable_audio.pipeline_stable_audio import StableAudioPipeline
from diffusers.utils import logging as diffusers_logging
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

# A pipeline whose `vae` is the spectral codec loads only where that module has been imported.
import common.diffusion.spectral_codec  # noqa: F401
from common.diffusion.text import tokenize
from common.errors import DataError
from common.hashing import hash_dir

SCHEDULER = "CosineDPMSolverMultistepScheduler"
"""The only scheduler of diffusers whose timestep is the `t` that the network was trained with."""


@dataclass(frozen=True)
class Condition:
    """What a clip is generated from.

    Attributes:
        cross: `(B, S, E)`: text tokens (padding zeroed), then start and end seconds; for cross-attention.
        global_: `(B, 1, G)`: start and end seconds; prepended to the latents.
    """

    cross: Tensor
    global_: Tensor

    def __getitem__(self, rows: Tensor | slice | list[int]) -> Condition:
        """The condition of some rows."""
        return Condition(self.cross[rows], self.global_[rows])


def join(conditions: Sequence[Condition]) -> Condition:
    """The conditions' rows one after the other."""
    return Condition(torch.cat([c.cross for c in conditions]), torch.cat([c.global_ for c in conditions]))


class StableAudio:
    """A `StableAudioPipeline` (autoencoder, T5, projection, DiT, Cosine scheduler).

    Args:
        pipeline: all its parts on one device.

    Raises:
        DataError: the pipeline's scheduler or latent sizes do not fit the network.
    """

    def __init__(self, pipeline: StableAudioPipeline) -> None:
        self.pipeline = pipeline
        self.vae, self.tokenizer, self.scheduler = pipeline.vae, pipeline.tokenizer, pipeline.scheduler
        self.text_encoder: Any = pipeline.text_encoder
        self.projection: Any = pipeline.projection_model
        self.transformer: Any = pipeline.transformer
        if type(self.scheduler).__name__ != SCHEDULER:
            raise DataError(
                f"scheduler {type(self.scheduler).__name__}, expected {SCHEDULER}: others call the network with a "
                "timestep it was not trained with; take a Stable Audio Open 1.0 checkpoint"
            )
        pipeline.set_progress_bar_config(disable=True)
        for part in (self.vae, self.text_encoder, self.projection, self.transformer):
            part.eval()
        self._rotary: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> StableAudio:
        """Load a `StableAudioPipeline` folder.

        Raises:
            DataError: the folder is no such pipeline.
        """
        try:
            with _quiet():
                pipeline = StableAudioPipeline.from_pretrained(str(path), dtype=dtype, local_files_only=True)
        except (OSError, ValueError) as error:
            raise DataError(f"no Stable Audio pipeline in {path}: {error}") from error
        return cls(pipeline.to(device))

    def save(self, path: str | Path) -> None:
        """Write the whole pipeline to a folder (safetensors)."""
        with _quiet():
            self.pipeline.save_pretrained(str(path), safe_serialization=True)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.transformer.parameters()).device

    @property
    def sample_rate_hz(self) -> int:
        """Of the audio that goes in and comes out."""
        return int(self.vae.config.sampling_rate)

    @property
    def channels(self) -> int:
        """Audio channels: 1 or 2."""
        return int(self.vae.config.audio_channels)

    @property
    def hop_length(self) -> int:
        """Samples per latent frame."""
        return int(self.vae.hop_length)

    @property
    def latent_channels(self) -> int:
        """Channels of a latent frame."""
        return int(self.transformer.config.in_channels)

    @property
    def max_frames(self) -> int:
        """Latent frames of the longest clip."""
        return int(self.transformer.config.sample_size)

    @property
    def window_s(self) -> float:
        """Duration of the longest clip."""
        return self.max_frames * self.hop_length / self.sample_rate_hz

    def frames(self, duration_s: float) -> int:
        """Latent frames that hold `duration_s`, at most `max_frames`."""
        samples = round(duration_s * self.sample_rate_hz)
        return min(self.max_frames, max(1, -(-samples // self.hop_length)))

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        """Audio `(B, C, T)` in [-1, 1] at `sample_rate_hz` -> latents `(B, D, L)`, the posterior's mean.

        Channels are averaged or repeated to fit; the end is padded with zeros to whole frames, or cut to the window.
        One clip at a time, so a clip's latents do not depend on its batch.
        """
        if audio.shape[1] != self.channels:
            audio = audio.mean(1, keepdim=True).expand(-1, self.channels, -1)
        length = self.frames(audio.shape[-1] / self.sample_rate_hz) * self.hop_length
        audio = audio[..., :length]
        audio = nn.functional.pad(audio, (0, length - audio.shape[-1]))
        return torch.cat([self.vae.encode(self._to_vae(clip[None])).latent_dist.mode() for clip in audio]).float()

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents `(B, D, L)` -> audio `(B, C, L * hop_length)`, float32; one clip at a time."""
        return torch.cat([self.vae.decode(self._to_vae(latent[None])).sample for latent in latents]).float()

    def condition(self, captions: Sequence[str], durations_s: Sequence[float]) -> Condition:
        """The condition of clips that start at second 0 and last `durations_s`."""
        ids, mask = tokenize(self.tokenizer, captions)
        return self.condition_tokens(ids, mask, torch.tensor(durations_s, dtype=torch.float32))

    def condition_tokens(self, ids: Tensor, mask: Tensor, durations_s: Tensor, trim: bool = False) -> Condition:
        """As `condition`, from ids and mask `(B, S)`, int64, and durations `(B,)`.

        With `trim` the text encoder sees as many tokens as the longest caption has: the same up to rounding, faster,
        but then the rounding depends on the batch.
        """
        ids, mask, end = ids.to(self.device), mask.to(self.device), durations_s.to(self.device)
        width = int(mask.sum(1).max()) if trim else ids.shape[1]
        hidden = self.text_encoder(ids[:, :width], attention_mask=mask[:, :width])[0]
        parts = self.projection(text_hidden_states=hidden, start_seconds=torch.zeros_like(end), end_seconds=end)
        text = parts.text_hidden_states * mask[:, :width, None]
        text = nn.functional.pad(text, (0, 0, 0, ids.shape[1] - width))
        start, end = parts.seconds_start_hidden_states, parts.seconds_end_hidden_states
        return Condition(torch.cat([text, start, end], dim=1), torch.cat([start, end], dim=2))

    def null(self, condition: Condition) -> Condition:
        """The unconditional twin as diffusers has it: all of cross-attention zero, seconds included; global kept."""
        return Condition(torch.zeros_like(condition.cross), condition.global_)

    def predict(self, noisy: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The network's v for `noisy` `(B, D, L)` at times `t` `(B,)` in (0, 1); differentiable."""
        output: Tensor = self.transformer(
            noisy,
            t,
            encoder_hidden_states=condition.cross,
            global_hidden_states=condition.global_,
            rotary_embedding=self._rotary_embedding(noisy.shape[2] + condition.global_.shape[1], noisy.device),
            return_dict=False,
        )[0]
        return output

    def _rotary_embedding(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        key = (length, device)
        if key not in self._rotary:
            size = int(self.transformer.config.attention_head_dim) // 2
            table = get_1d_rotary_pos_embed(size, length, use_real=True, repeat_interleave_real=False)
            self._rotary[key] = tuple(part.to(device) for part in table)
        return self._rotary[key]

    def _to_vae(self, value: Tensor) -> Tensor:
        parameter: Any = next(iter(self.vae.state_dict().values()))
        return value.to(parameter.device, parameter.dtype)


@contextmanager
def _quiet() -> Iterator[None]:
    # Loading bars, and a warning that the codec in the `vae` slot is no AutoencoderOobleck.
    verbosity = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    bars = diffusers_logging.is_progress_bar_enabled(), transformers_logging.is_progress_bar_enabled()
    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    try:
        yield
    finally:
        for logging, level, bar in zip((diffusers_logging, transformers_logging), verbosity, bars, strict=True):
            logging.set_verbosity(level)
            if bar:
                logging.enable_progress_bar()


def model_hash(path: str | Path) -> str:
    """SHA-256 of a pipeline folder's content; what training wrote about itself does not count."""
    return hash_dir(Path(path), skip=frozenset({"training.json"}))
