"""Autoencoder and tokenizer of a corpus, and the encoding of its clips and captions."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer

from common.config.corpus import EMBEDDED, PrepareCorpusConfig
from common.corpus.vocabulary import build_tokenizer
from common.diffusion.spectral_codec import load_autoencoder
from common.errors import ConfigError, DataError
from common.models.registry import locate
from common.storage.artifacts import artifact_hash
from components.prepare_corpus.store import Models

Item = TypeVar("Item")


def open_published_vae(config: PrepareCorpusConfig) -> Any:
    """Autoencoder of a published pipeline.

    Raises:
        ConfigError: it can neither be found nor downloaded.
        DataError: its rate or number of channels differs from the corpus's.
    """
    folder = locate(config.vae, config.vae_revision, ["vae/*.json", "vae/*.safetensors"]) / "vae"
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{config.vae} has no folder `vae` with a config.json; correct prepare_corpus.vae")
    vae = load_autoencoder(folder)
    found = (vae.config.sampling_rate, vae.config.audio_channels)
    if found != (config.sample_rate_hz, config.channels):
        raise DataError(
            f"{config.vae}: its autoencoder takes {found[0]} Hz with {found[1]} channels, the corpus has "
            f"{config.sample_rate_hz} Hz with {config.channels}; make prepare_corpus.sample_rate_hz and channels equal"
        )
    return vae


def open_tokenizer(config: PrepareCorpusConfig, vocabulary: Sequence[tuple[str, float]]) -> Any:
    """Tokenizer of the text encoder: built from this corpus's vocabulary, or a published one."""
    if config.tokenizer == EMBEDDED:
        return build_tokenizer(vocabulary, config.max_tokens)
    folder = locate(config.tokenizer, config.tokenizer_revision, ["*.json", "*.model"])
    return AutoTokenizer.from_pretrained(str(folder), model_max_length=config.max_tokens)


def save(vae: Any, tokenizer: Any, folder: Path) -> Models:
    """Save `vae/` and `tokenizer/` in `folder`."""
    vae.save_pretrained(folder / "vae")
    tokenizer.save_pretrained(folder / "tokenizer")
    return Models(folder, artifact_hash(folder / "vae"), artifact_hash(folder / "tokenizer"))


@lru_cache(maxsize=1)
def open_encoder(models: Models) -> Encoder:
    """Encoder with the saved models, loaded once per process; workers take GPUs in turn."""
    device = "cpu"
    if gpus := torch.cuda.device_count():
        number = multiprocessing.current_process().name.rpartition("-")[2]
        device = f"cuda:{(int(number) - 1) % gpus if number.isdigit() else 0}"
    vae = load_autoencoder(models.folder / "vae", device)
    return Encoder(vae, AutoTokenizer.from_pretrained(models.folder / "tokenizer"))


class Encoder:
    """Encoder of clips to latents, by an autoencoder in evaluation mode, and of captions to token ids."""

    def __init__(self, vae: Any, tokenizer: Any) -> None:
        self._vae, self._tokenizer = vae, tokenizer

    @property
    def on_gpu(self) -> bool:
        """Whether the autoencoder is on a GPU, where batches are faster than single clips."""
        return bool(self._vae.device.type == "cuda")

    @torch.no_grad()
    def encode(self, clips: Sequence[np.ndarray]) -> list[NDArray[np.float32]]:
        """Latents `(D, L)` of clips `(C, T)`, padded with silence to whole frames; equal lengths share a batch."""
        hop = self._vae.hop_length
        padded = [np.pad(clip, ((0, 0), (0, -clip.shape[-1] % hop))) for clip in clips]
        found: dict[int, NDArray[np.float32]] = {}
        for length in {clip.shape[-1] for clip in padded}:
            places = [place for place, clip in enumerate(padded) if clip.shape[-1] == length]
            batch = torch.from_numpy(np.stack([padded[place] for place in places])).to(self._vae.device)
            latents = self._vae.encode(batch).latent_dist.mode().float().cpu().numpy()
            found.update(zip(places, latents, strict=True))
        return [found[place] for place in range(len(clips))]

    def token_ids(self, caption: str) -> NDArray[np.int64]:
        """Token ids `(S,)` without padding. Raises DataError: the caption has too many tokens."""
        ids = self._tokenizer(caption)["input_ids"]
        if len(ids) > self._tokenizer.model_max_length:
            raise DataError(
                f"caption of {len(ids)} tokens, at most {self._tokenizer.model_max_length} fit: {caption!r:.100}; "
                "shorten it or raise prepare_corpus.max_tokens"
            )
        return np.array(ids, dtype=np.int64)


def read_ahead(items: Iterator[Item], count: int) -> Iterator[Item]:
    """The same items; a thread reads up to `count` of them ahead while the caller works on others."""
    done = object()
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(1) as reader:
        for _ in range(count):
            waiting.append(reader.submit(next, items, done))
        while (item := waiting.popleft().result()) is not done:
            waiting.append(reader.submit(next, items, done))
            yield item
