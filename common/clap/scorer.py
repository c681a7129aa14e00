"""CLAP embeddings of audio and text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel, ClapProcessor, PreTrainedTokenizerBase

from common.audio.signal import resample
from common.clap.features import ClapFeatures
from common.errors import DataError
from common.runtime.devices import device as default_device


class _Window(NamedTuple):
    """A window of a clip; `frames` counts the clip's own frames in its spectrogram, 0 unless it is the first window."""

    samples: np.ndarray
    clip: int
    frames: int
    last: bool


class ClapScorer:
    """Deterministic unit-norm embeddings from any transformers `ClapModel` directory.

    Every batch has the same size (the last one is padded), so on the CPU a clip's embedding does not
    depend on its neighbours or its position.

    Args:
        model: set to evaluation mode.
    """

    def __init__(
        self,
        model: ClapModel,
        tokenizer: PreTrainedTokenizerBase,
        extractor: ClapFeatureExtractor,
        batch_size: int = 32,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.extractor = extractor
        self.features = ClapFeatures(extractor)
        self.batch_size = batch_size

    @classmethod
    def load(cls, path: Path | str, *, batch_size: int = 32, device: str | None = None) -> ClapScorer:
        """Load a directory written by `ClapModel.save_pretrained` and `ClapProcessor.save_pretrained`.

        Args:
            device: default: a GPU where there is one.

        Raises DataError: the directory holds no CLAP with safetensors weights.
        """
        try:
            model = ClapModel.from_pretrained(path, use_safetensors=True, local_files_only=True)
            extractor = ClapFeatureExtractor.from_pretrained(path, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise DataError(f"no CLAP in {path}: {error}; expected a directory written by pretrain_clap") from error
        model.to(device or default_device())
        return cls(model, tokenizer, extractor, batch_size)

    def save(self, path: Path | str) -> None:
        """Save model and processor in the format of `ClapModel` and `ClapProcessor`."""
        self.model.save_pretrained(path)
        ClapProcessor(self.extractor, self.tokenizer).save_pretrained(path)

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate of the model; audio at other rates is resampled."""
        return self.features.sample_rate_hz

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        return int(self.model.config.projection_dim)

    def embed_audio(
        self, clips: Iterable[np.ndarray], sample_rate_hz: int, heard: Callable[[int, np.ndarray], None] | None = None
    ) -> np.ndarray:
        """Embed clips; a clip longer than the model's window gets the mean over fixed windows.

        Args:
            clips: mono (T,) arrays in [-1, 1], of any lengths; consumed one by one, so a generator
                keeps memory flat.
            heard: called with the index of each clip and the log-mel spectrogram of its first window without
                padding, (T, mel_bins) in dB: `features.spectrogram` at no extra cost.

        Returns (B, D) float32, rows of norm 1. Raises DataError: a clip is empty or not mono.
        """
        rows: list[np.ndarray] = []
        pending: list[_Window] = []
        # Windows come in the order of their clips, so only the last clip can be unfinished.
        total = np.zeros(self.dim)
        for index, clip in enumerate(clips):
            if sample_rate_hz != self.sample_rate_hz:
                clip = resample(clip, sample_rate_hz, self.sample_rate_hz)
            windows = self.features.windows(clip)
            frames = self.features.frames(clip.size)
            last = len(windows) - 1
            pending += [_Window(w, index, 0 if n else frames, n == last) for n, w in enumerate(windows)]
            while len(pending) >= self.batch_size:
                total = self._take(pending[: self.batch_size], total, rows, heard)
                pending = pending[self.batch_size :]
        if pending:
            self._take(pending, total, rows, heard)
        return np.concatenate(rows) if rows else np.zeros((0, self.dim), np.float32)

    def _take(
        self,
        windows: Sequence[_Window],
        total: np.ndarray,
        rows: list[np.ndarray],
        heard: Callable[[int, np.ndarray], None] | None,
    ) -> np.ndarray:
        """Append the embeddings of the clips that end in this batch; return the partial sum of an unfinished clip."""
        embedded, features = self._embed_windows(np.stack([window.samples for window in windows]))
        finished = []
        for place, (window, row) in enumerate(zip(windows, embedded, strict=True)):
            total = total + row
            if heard is not None and window.frames:
                heard(window.clip, features[place, 0, : window.frames].cpu().numpy())
            if window.last:
                finished.append(total)
                total = np.zeros(self.dim)
        if finished:
            sums = np.stack(finished)
            rows.append((sums / np.linalg.norm(sums, axis=1, keepdims=True).clip(1e-12)).astype(np.float32))
        return total

    @torch.inference_mode()
    def _embed_windows(self, windows: np.ndarray) -> tuple[np.ndarray, Tensor]:
        """Embeddings (B, D) float64 of windows (B, window_length), and features (batch_size, 1 or 4, T, mel_bins)."""
        count = len(windows)
        padded = np.concatenate([windows, np.zeros((self.batch_size - count, windows.shape[1]), np.float32)])
        features = self.features(torch.from_numpy(padded).to(self.model.device))
        embedded = audio_embeddings(self.model, features)[:count].double().cpu().numpy()
        return embedded, features

    @torch.inference_mode()
    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts, each distinct one once.

        Returns (B, D) float32, rows of norm 1. Raises DataError: a text has more tokens than the model's limit; texts
        are never truncated.
        """
        distinct = sorted(set(texts))
        rows: dict[str, np.ndarray] = {}
        for start in range(0, len(distinct), self.batch_size):
            batch = distinct[start : start + self.batch_size]
            ids, mask = tokenize(self.tokenizer, batch, self.model)
            embedded = text_embeddings(self.model, ids.to(self.model.device), mask.to(self.model.device))
            rows |= dict(zip(batch, embedded.float().cpu().numpy(), strict=True))
        return np.stack([rows[text] for text in texts]) if rows else np.zeros((0, self.dim), np.float32)


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], model: ClapModel) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both (B, S) int64, padded to the longest text.

    Raises DataError: a text has more tokens than the model's limit.
    """
    encoded = tokenizer(list(texts), padding=True, truncation=False, return_tensors="pt")
    config = model.config.text_config
    # RoBERTa numbers positions from the padding token's id upwards.
    room = config.max_position_embeddings - config.pad_token_id - 1
    if encoded.input_ids.shape[1] > room:
        longest = max(texts, key=len)
        raise DataError(f"text of {encoded.input_ids.shape[1]} tokens, CLAP reads {room}: shorten {longest[:80]!r}")
    return encoded.input_ids, encoded.attention_mask


def audio_embeddings(model: ClapModel, features: Tensor) -> Tensor:
    """Embed features (B, 1 or 4, frames, mel_bins) to (B, D), rows of norm 1."""
    is_longer = torch.zeros(len(features), 1, dtype=torch.bool, device=features.device)
    embedded: Tensor = model.get_audio_features(input_features=features, is_longer=is_longer).pooler_output
    return embedded


def text_embeddings(model: ClapModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Embed tokens (B, S) to (B, D), rows of norm 1."""
    embedded: Tensor = model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
    return embedded
