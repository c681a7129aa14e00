"""CLAP embeddings of audio and text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel, ClapProcessor, PreTrainedTokenizerBase

from common.audio import resample
from common.clap.features import ClapFeatures
from common.errors import DataError


class ClapScorer:
    """Unit-norm embeddings from any transformers `ClapModel` directory, free of chance.

    Every batch has the same size (a last one is padded), so on the CPU a clip's embedding depends
    neither on its neighbours nor on its place.

    Args:
        model: set to evaluation mode.
        tokenizer: of the model's text side.
        extractor: gives the features' settings.
        batch_size: windows per pass.
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
        """Read a directory written by `ClapModel.save_pretrained` and `ClapProcessor.save_pretrained`.

        Args:
            path: the directory.
            batch_size: windows per pass.
            device: default: a GPU where there is one.

        Raises:
            DataError: the directory holds no CLAP with safetensors weights.
        """
        try:
            model = ClapModel.from_pretrained(path, use_safetensors=True, local_files_only=True)
            extractor = ClapFeatureExtractor.from_pretrained(path, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"no CLAP in {path}: {error}; expected a directory written by pretrain_clap") from error
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return cls(model, tokenizer, extractor, batch_size)

    def save(self, path: Path | str) -> None:
        """Write model and processor; `ClapModel` and `ClapProcessor` read them back."""
        self.model.save_pretrained(path)
        ClapProcessor(self.extractor, self.tokenizer).save_pretrained(path)

    @property
    def sample_rate_hz(self) -> int:
        """The rate that the model hears; audio at other rates is resampled."""
        return self.features.sample_rate_hz

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return int(self.model.config.projection_dim)

    def embed_audio(self, clips: Iterable[np.ndarray], sample_rate_hz: int) -> np.ndarray:
        """Embed clips; of a clip longer than the model's window, the mean over fixed windows.

        Args:
            clips: mono (T,) arrays in [-1, 1], of any lengths; taken one by one, so a generator
                keeps memory flat.
            sample_rate_hz: of all the clips.

        Returns:
            (B, D) float32, rows of norm 1.

        Raises:
            DataError: a clip is empty or not mono.
        """
        totals: list[np.ndarray] = []
        pending: list[tuple[int, np.ndarray]] = []
        for clip in clips:
            if sample_rate_hz != self.sample_rate_hz:
                clip = resample(clip, sample_rate_hz, self.sample_rate_hz)
            pending += [(len(totals), window) for window in self.features.windows(clip)]
            totals.append(np.zeros(self.dim))
            while len(pending) >= self.batch_size:
                self._add(totals, pending[: self.batch_size])
                pending = pending[self.batch_size :]
        if pending:
            self._add(totals, pending)
        total = np.reshape(totals, (len(totals), self.dim))
        return (total / np.linalg.norm(total, axis=1, keepdims=True).clip(1e-12)).astype(np.float32)

    def _add(self, totals: list[np.ndarray], windows: list[tuple[int, np.ndarray]]) -> None:
        embedded = self._embed_windows(np.stack([window for _, window in windows]))
        for (owner, _), row in zip(windows, embedded, strict=True):
            totals[owner] += row

    @torch.inference_mode()
    def _embed_windows(self, windows: np.ndarray) -> np.ndarray:
        count = len(windows)
        padded = np.concatenate([windows, np.zeros((self.batch_size - count, windows.shape[1]), np.float32)])
        features = self.features(torch.from_numpy(padded).to(self.model.device))
        return audio_embeddings(self.model, features)[:count].double().cpu().numpy()

    @torch.inference_mode()
    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts, each distinct one once.

        Returns:
            (B, D) float32, rows of norm 1.

        Raises:
            DataError: a text has more tokens than the model can read; nothing is ever cut.
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

    Raises:
        DataError: a text has more tokens than the model can read.
    """
    encoded = tokenizer(list(texts), padding=True, truncation=False, return_tensors="pt")
    config = model.config.text_config
    # RoBERTa counts positions from the padding token's id on.
    room = config.max_position_embeddings - config.pad_token_id - 1
    if encoded.input_ids.shape[1] > room:
        longest = max(texts, key=len)
        raise DataError(f"text of {encoded.input_ids.shape[1]} tokens, CLAP reads {room}: shorten {longest[:80]!r}")
    return encoded.input_ids, encoded.attention_mask


def audio_embeddings(model: ClapModel, features: Tensor) -> Tensor:
    """(B, D), rows of norm 1, of features (B, 1 or 4, frames, mel_bins)."""
    is_longer = torch.zeros(len(features), 1, dtype=torch.bool, device=features.device)
    embedded: Tensor = model.get_audio_features(input_features=features, is_longer=is_longer).pooler_output
    return embedded


def text_embeddings(model: ClapModel, ids: Tensor, mask: Tensor) -> Tensor:
    """(B, D), rows of norm 1, of tokens (B, S)."""
    embedded: Tensor = model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
    return embedded
