"""Interface of a text-to-audio model: encode, condition, predict, solve, decode.

The rest of the program sees only `T2ABackend`; each model is a module of `common.diffusion.backends` with a subclass,
its `BACKEND`, under the module's name.
"""

from __future__ import annotations

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from diffusers.utils import logging as diffusers_logging
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from transformers.utils import logging as transformers_logging

# A pipeline with the spectral codec as `vae` loads only after this import.
import common.diffusion.spectral_codec  # noqa: F401
from common.diffusion.text import Condition, Text, tokenize
from common.errors import DataError
from common.registered import member, names
from common.storage import read_json, write_json

if TYPE_CHECKING:
    from common.config.t2a import PretrainT2AConfig, SamplerConfig, TransformerConfig
    from common.diffusion.objective import Noise, Objective, Solver

PLACE = "_name_or_path"
"""Entry of a config for the folder it was loaded from, which belongs to the machine and not to the model."""


def masked_states(states: Tensor, mask: Tensor) -> Tensor:
    """Zero the padding of states `(B, S', E)` and pad them with zeros to the width of the mask `(B, S)`."""
    width = states.shape[1]
    return nn.functional.pad(states * mask[:, :width, None], (0, 0, 0, mask.shape[1] - width))


def rotary_table(transformer: Any, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary embedding for `length` positions."""
    size = int(transformer.config.attention_head_dim) // 2
    cosines, sines = get_1d_rotary_pos_embed(size, length, use_real=True, repeat_interleave_real=False)
    return cosines.to(device), sines.to(device)


def saved_bytes(model: nn.Module, forward: Callable[[], Tensor]) -> float:
    """Bytes of the distinct tensors that `forward` keeps for its backward pass, without the weights themselves."""
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, int] = {}
    # Held to the end, so that no address is used twice.
    alive: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        alive.append(tensor)
        return tensor

    model.train()
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    return float(sum(kept.values()))


class T2ABackend(ABC):
    """A diffusers pipeline of autoencoder, text encoder, projection, diffusion transformer and scheduler.

    Attributes:
        seconds: embeddings of seconds in the global states.
        pipeline_class: the diffusers class.
        projection_class: takes widths of text and condition, and the range of seconds.
        parts: allowed classes by pipeline part; parts not listed may be of any class.
        channels: of audio, 1 or 2.
        hop_length: samples of a latent frame.
        max_frames: latent frames of the longest clip, whose duration is `window_s`.
    """

    objective: ClassVar[Objective]
    seconds: ClassVar[int]
    pipeline_class: ClassVar[Any]
    projection_class: ClassVar[Any]
    parts: ClassVar[Mapping[str, tuple[str, ...]]]

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.vae, self.tokenizer, self.scheduler = pipeline.vae, pipeline.tokenizer, pipeline.scheduler
        self.text_encoder: Any = pipeline.text_encoder
        self.projection: Any = pipeline.projection_model
        self.transformer: Any = pipeline.transformer
        self.sample_rate_hz, self.channels = int(self.vae.config.sampling_rate), int(self.vae.config.audio_channels)
        self.hop_length, self.latent_channels = int(self.vae.hop_length), int(self.transformer.config.in_channels)
        self.max_frames = int(self.transformer.config.sample_size)
        self.window_s = self.max_frames * self.hop_length / self.sample_rate_hz
        pipeline.set_progress_bar_config(disable=True)
        for module in (self.vae, self.text_encoder, self.projection, self.transformer):
            module.eval()
        self._rotary: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> Self:
        """Load a pipeline folder of this back end; `load_backend` detects the back end.

        Raises DataError: the folder does not hold such a pipeline.
        """
        try:
            _quieten()
            pipeline = cls.pipeline_class.from_pretrained(str(path), dtype=torch.float32, local_files_only=True)
        except (OSError, ValueError) as error:
            raise DataError(f"no {cls.pipeline_class.__name__} in {path}: {error}") from error
        return cls(pipeline.to(device))

    @classmethod
    @abstractmethod
    def transformer_class(cls, shape: TransformerConfig) -> Any:
        """Class of the diffusion transformer."""

    @classmethod
    def build_transformer(cls, shape: TransformerConfig, channels: int, frames: int, conditioning_dim: int) -> Any:
        """Build the diffusion transformer for latents `(channels, frames)`, with PyTorch's initial weights."""
        return cls.transformer_class(shape)(
            sample_size=frames,
            in_channels=channels,
            out_channels=channels,
            cross_attention_input_dim=conditioning_dim,
            global_states_input_dim=cls.seconds * conditioning_dim,
            **shape.model_dump(exclude={"window_s", "precondition"}),
        )

    @classmethod
    def build_projection(cls, text_dim: int, conditioning_dim: int, max_seconds: float) -> Any:
        """Build the projection of text states and seconds to the conditioning width."""
        return cls.projection_class(text_dim, conditioning_dim, 0, max_seconds)

    @classmethod
    @abstractmethod
    def build_scheduler(cls, config: PretrainT2AConfig) -> Any:
        """Build the scheduler (noise levels) of a model trained here."""

    @abstractmethod
    def solver(self, sampler: SamplerConfig, noise: Noise, init_level: float | None = None) -> Solver:
        """Create a solver for one batch, starting at time `init_level` if given."""

    @abstractmethod
    def _condition(self, text: Text, durations_s: Tensor) -> Condition: ...

    def save(self, path: str | Path) -> None:
        """Save the whole pipeline to a folder (safetensors), without the name of the folder that it came from."""
        _quieten()
        self.pipeline.save_pretrained(str(path), safe_serialization=True)
        for config in Path(path).rglob("*.json"):
            told = read_json(config)
            if isinstance(told, dict) and told.pop(PLACE, None) is not None:
                write_json(config, told)

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.transformer.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the network's inputs and outputs."""
        # The last weight: the first one is the embedding of time, see `to_bf16`.
        return list(self.transformer.parameters())[-1].dtype

    def to_bf16(self) -> None:
        """Convert the network to bf16 for sampling; the embedding of time stays in fp32.

        In bf16 times above 0.5 are multiples of 1/256; many of a sampler's first steps would have the same.
        """
        exact = copy.deepcopy(getattr(self.transformer, "time_proj", None))
        self.transformer.to(torch.bfloat16)
        if exact is not None:
            # diffusers converts times to the type of the network's first weight, which is this one.
            self.transformer.time_proj = exact
            exact.register_forward_hook(lambda module, times, embedded: embedded.to(torch.bfloat16))

    def frames(self, duration_s: float, width: int = 1, windows: int = 1) -> int:
        """Latent frames that hold `duration_s`, rounded up to a multiple of `width`; at most those of `windows`."""
        frames = max(1, -(-round(duration_s * self.sample_rate_hz) // self.hop_length))
        return min(windows * self.max_frames, -(-frames // width) * width)

    @torch.no_grad()
    def encode(self, audio: Tensor, windows: int = 1) -> Tensor:
        """Encode audio `(B, C, T)` in [-1, 1] at `sample_rate_hz` to latents `(B, D, L)`, the posterior's mode.

        Channels are averaged or repeated to fit; the end is padded with zeros to whole frames, or cut to `windows` of
        the model. Clips are encoded one at a time, so a clip's latents do not depend on its batch.
        """
        if audio.shape[1] != self.channels:
            audio = audio.mean(1, keepdim=True).expand(-1, self.channels, -1)
        length = self.frames(audio.shape[-1] / self.sample_rate_hz, windows=windows) * self.hop_length
        audio = nn.functional.pad(audio, (0, length - audio.shape[-1]))
        return torch.cat([self.vae.encode(self._to_vae(clip[None])).latent_dist.mode() for clip in audio]).float()

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents `(B, D, L)` to audio `(B, C, L * hop_length)`, float32; one clip at a time."""
        return torch.cat([self.vae.decode(self._to_vae(latent[None])).sample for latent in latents]).float()

    def decode_mono(self, latent: Tensor, duration_s: float) -> NDArray[np.float32]:
        """Decode one clip's latents `(D, L)` to mono audio `(T,)`, cut to its duration."""
        audio = self.decode(latent[None])[0].mean(0).cpu().numpy()
        return audio[: max(1, round(duration_s * self.sample_rate_hz))]

    def condition(self, captions: Sequence[str], durations_s: Sequence[float]) -> Condition:
        """Condition of clips that start at second 0 and last `durations_s`."""
        return self.condition_text(self.encode_text(captions), durations_s)

    def condition_tokens(self, ids: Tensor, mask: Tensor, durations_s: Tensor, trim: bool = False) -> Condition:
        """Condition as in `condition`, from ids and mask `(B, S)`, int64, and durations `(B,)`.

        With `trim` the text encoder processes only as many tokens as the longest caption has. This is faster and equal
        up to rounding, but the rounding then depends on the batch.
        """
        return self._condition(self._encode_tokens(ids, mask, trim), durations_s)

    def encode_text(self, captions: Sequence[str]) -> Text:
        """Encode captions with the text encoder, the only part of the condition that needs it."""
        return self._encode_tokens(*tokenize(self.tokenizer, captions))

    def condition_text(self, text: Text, durations_s: Sequence[float]) -> Condition:
        """Condition as in `condition`, from encoded captions."""
        return self._condition(text, torch.tensor(durations_s, dtype=torch.float32))

    def _encode_tokens(self, ids: Tensor, mask: Tensor, trim: bool = False) -> Text:
        ids, mask = ids.to(self.device), mask.to(self.device)
        width = int(mask.sum(1).max()) if trim else ids.shape[1]
        return Text(self.text_encoder(ids[:, :width], attention_mask=mask[:, :width])[0], mask)

    def null(self, condition: Condition) -> Condition:
        """Unconditional twin, as in diffusers: all of cross-attention zero, seconds included; global states kept."""
        return Condition(torch.zeros_like(condition.cross), condition.global_)

    def predict(self, noisy: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Network output (v) for `noisy` `(B, D, L)` at times `t` `(B,)` in (0, 1); differentiable."""
        return self.transformer(
            noisy,
            t,
            encoder_hidden_states=condition.cross,
            global_hidden_states=condition.global_,
            rotary_embedding=self._rotary_embedding(noisy.shape[2] + condition.global_.shape[1], noisy.device),
            return_dict=False,
        )[0]

    def _rotary_embedding(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        key = (length, device)
        if key not in self._rotary:
            self._rotary[key] = rotary_table(self.transformer, length, device)
        return self._rotary[key]

    def _to_vae(self, value: Tensor) -> Tensor:
        parameter: Any = next(iter(self.vae.state_dict().values()))
        return value.to(parameter.device, parameter.dtype)


def backend_class(path: str | Path) -> type[T2ABackend]:
    """Back end of the pipeline in a folder, by the classes that its `model_index.json` names; nothing else is read.

    Raises DataError: there is no readable `model_index.json`, or it names another class of pipeline or part.
    """
    try:
        index = json.loads((Path(path) / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} has no readable model_index.json: expected a folder of a pipeline: {error}") from error
    known = {
        backend.pipeline_class.__name__: backend for backend in map(named_backend, names("common.diffusion.backends"))
    }
    if (name := index.get("_class_name")) not in known:
        raise DataError(f"{path} holds a {name}, expected a {' or '.join(known)}: correct the model's path or name")
    for part, classes in known[name].parts.items():
        if (found := (index.get(part) or [None, None])[1]) not in classes:
            raise DataError(
                f"{path}: part {part} is {found}, expected {' or '.join(classes)}: this is a checkpoint of another "
                "architecture; correct `start`"
            )
    return known[name]


def named_backend(name: str) -> type[T2ABackend]:
    """Back end of a module of `common.diffusion.backends`."""
    return member("common.diffusion.backends", name).BACKEND


def load_backend(path: str | Path, device: str = "cpu") -> T2ABackend:
    """Load the text-to-audio model in a folder, detecting its back end.

    Raises DataError: the folder holds no known pipeline, or an incomplete one.
    """
    return backend_class(path).load(path, device)


def _quieten() -> None:
    # Silences progress bars, and a warning that the codec in the `vae` slot is not an AutoencoderOobleck.
    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def residual(backend: T2ABackend, z: Tensor, eps: Tensor, t: Tensor, condition: Condition) -> Tensor:
    """The network's prediction less its target: `(B, D, L)` in fp32, differentiable."""
    predicted = backend.predict(backend.objective.noisy(z, eps, t), t, condition)
    return predicted.float() - backend.objective.target(z, eps, t)


def error(backend: T2ABackend, z: Tensor, eps: Tensor, t: Tensor, condition: Condition) -> Tensor:
    """Squared error of the network's prediction, mean over channels and frames: `(B,)`, differentiable."""
    return residual(backend, z, eps, t, condition).square().mean(dim=(1, 2))
