"""The autoencoder and tokenizer of a corpus, and what they make of a clip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck
from numpy.typing import NDArray
from transformers import AutoTokenizer

from common.config.corpus import EMBEDDED, SPECTRAL, PrepareCorpusConfig
from common.diffusion.spectral_codec import SpectralCodec
from common.diffusion.text import build_tokenizer
from common.errors import DataError


def open_vae(config: PrepareCorpusConfig, clips: Iterable[np.ndarray]) -> Any:
    """The autoencoder: fitted to mono `clips` (`spectral`), or that of a published pipeline.

    Raises:
        DataError: the published autoencoder has another rate or number of channels than the corpus.
    """
    if config.vae == SPECTRAL:
        return SpectralCodec.fit((clip[0] for clip in clips), config.codec)
    vae = AutoencoderOobleck.from_pretrained(config.vae, subfolder="vae", revision=config.vae_revision).eval()
    found = (vae.config.sampling_rate, vae.config.audio_channels)
    if found != (config.sample_rate_hz, config.channels):
        raise DataError(
            f"{config.vae}: its autoencoder takes {found[0]} Hz with {found[1]} channels, the corpus has "
            f"{config.sample_rate_hz} Hz with {config.channels}; make prepare_corpus.sample_rate_hz and channels equal"
        )
    return vae


def open_tokenizer(config: PrepareCorpusConfig, vocabulary: Sequence[tuple[str, float]]) -> Any:
    """The text encoder's tokenizer: of this corpus's vocabulary, or a published one."""
    if config.tokenizer == EMBEDDED:
        return build_tokenizer(vocabulary, config.max_tokens)
    return AutoTokenizer.from_pretrained(
        config.tokenizer, revision=config.tokenizer_revision, model_max_length=config.max_tokens
    )


@torch.no_grad()
def encode(vae: Any, audio: np.ndarray) -> NDArray[np.float32]:
    """Latents `(D, L)` of one clip `(C, T)`, padded with silence to whole latent frames."""
    missing = -audio.shape[-1] % vae.hop_length
    padded = torch.from_numpy(np.pad(audio, ((0, 0), (0, missing))))[None].to(vae.device)
    latent: NDArray[np.float32] = vae.encode(padded).latent_dist.mode()[0].float().cpu().numpy()
    return latent


def token_ids(tokenizer: Any, caption: str) -> NDArray[np.int64]:
    """Token ids `(S,)` without padding.

    Raises:
        DataError: the caption does not fit.
    """
    ids = tokenizer(caption)["input_ids"]
    if len(ids) > tokenizer.model_max_length:
        raise DataError(
            f"caption of {len(ids)} tokens, at most {tokenizer.model_max_length} fit: {caption!r:.100}; shorten it or "
            "raise prepare_corpus.max_tokens"
        )
    return np.array(ids, dtype=np.int64)


def save(vae: Any, tokenizer: Any, folder: Path) -> None:
    """Write `vae/` and `tokenizer/` below `folder`."""
    vae.save_pretrained(folder / "vae")
    tokenizer.save_pretrained(folder / "tokenizer")
