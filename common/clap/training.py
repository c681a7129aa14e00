"""Contrastive training of CLAP on features of clips, in memory or on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from common.audio.signal import resample
from common.clap.model import contrastive_loss, freeze_batch_norm, soft_targets
from common.clap.scorer import ClapScorer, tokenize
from common.config.base import OptimConfig
from common.runtime.seeding import numpy_generator
from common.storage.checkpoints import Checkpoints
from common.training import Curve, Part, fit


class Windows(Protocol):
    """Features of windows; a tensor qualifies."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: list[int], /) -> Tensor:
        """Features (len(rows), 1 or 4, frames, mel_bins)."""
        ...


class Texts(Protocol):
    """Texts of each window; a list of lists qualifies."""

    def __getitem__(self, row: int, /) -> Sequence[str]: ...


class Keys(Protocol):
    """Matching key of each window's texts; a list qualifies."""

    def __getitem__(self, row: int, /) -> str | None: ...


def window_features(scorer: ClapScorer, clips: Iterable[np.ndarray], sample_rate_hz: int) -> tuple[Tensor, list[int]]:
    """Compute the features of all windows of all clips.

    Args:
        clips: mono (T,) arrays in [-1, 1].

    Returns (W, 1 or 4, frames, mel_bins), and for each row the index of its clip.
    """
    rows: list[Tensor] = []
    owners: list[int] = []
    for index, clip in enumerate(clips):
        if sample_rate_hz != scorer.sample_rate_hz:
            clip = resample(clip, sample_rate_hz, scorer.sample_rate_hz)
        features = scorer.features(torch.from_numpy(scorer.features.windows(clip)))
        rows.append(features)
        owners += [index] * len(features)
    return torch.cat(rows), owners


def train_contrastive(
    scorer: ClapScorer,
    features: Windows,
    captions: Texts,
    keys: Keys,
    optim: OptimConfig,
    *,
    seed: int,
    name: str,
    equalizer_db: float = 0.0,
    checkpoints: Checkpoints | None = None,
    evaluate: Callable[[int], Mapping[str, float]] | None = None,
    best: Callable[[Sequence[Mapping[str, float]]], int] | None = None,
) -> Curve:
    """Train the scorer's model in place, with all processes of `common.training.launch`.

    Args:
        scorer: holds the model; left in evaluation mode.
        features: (N, 1 or 4, frames, mel_bins), one row per window; each process reads its own rows only.
        captions: one or more wordings per row; each step draws one.
        keys: one per row; two rows match each other's text if their keys are equal, or, where a key
            is null, if their captions are.
        optim: steps, rate, schedule.
        name: for log lines; enters every draw.
        equalizer_db: range of the random gains of `equalizer_gains`; 0 = none.

    Returns the curve of `common.training.fit`.
    """
    model = scorer.model
    freeze_batch_norm(model)

    def loss(step: int, generator: torch.Generator, part: Part) -> tuple[Tensor, dict[str, float]]:
        freeze_batch_norm(model)
        chosen = _batch(len(features), optim.batch_size, step, seed, name)
        drawn = torch.randint(0, 2**31 - 1, (len(chosen),), generator=generator).tolist()
        own, together = part.rows(len(chosen)), part.gathered_rows(len(chosen))
        with part.waiting.running():
            wordings = [captions[row] for row in chosen]
            texts = [said[number % len(said)] for said, number in zip(wordings, drawn, strict=True)]
            matching = [
                key if (key := keys[row]) is not None else text for row, text in zip(chosen, texts, strict=True)
            ]
            heard = features[chosen[own]]
        ids, mask = tokenize(scorer.tokenizer, texts, model)
        if equalizer_db:
            heard = heard + equalizer_gains(len(chosen), heard.shape[-1], equalizer_db, generator)[own]
        device = model.device
        targets = soft_targets(matching[together]).to(device)
        value, accuracy = contrastive_loss(
            model, heard.to(device), ids[own].to(device), mask[own].to(device), targets, part
        )
        return value, {"batch_accuracy": accuracy}

    curve = fit(model, loss, optim, seed=seed, name=name, checkpoints=checkpoints, evaluate=evaluate, best=best)
    model.eval()
    return curve


def equalizer_gains(count: int, mel_bins: int, deviation_db: float, generator: torch.Generator) -> Tensor:
    """Draw random smooth equalisers for log-mel spectrograms (FilterAugment, arXiv 2110.03282).

    Args:
        deviation_db: standard deviation of the gain at each of six points over the bands.

    Returns (count, 1, 1, mel_bins) dB.
    """
    points = deviation_db * torch.randn(count, 1, 6, generator=generator)
    gains = torch.nn.functional.interpolate(points, mel_bins, mode="linear", align_corners=True)
    return gains[:, :, None, :]


@lru_cache(maxsize=2)
def _order(count: int, seed: int, name: str, epoch: int) -> np.ndarray:
    return numpy_generator(seed, name, "epoch", epoch).permutation(count)


def _batch(count: int, size: int, step: int, seed: int, name: str) -> list[int]:
    """Rows of the batch of `step`; epochs are permutations, so each clip is seen equally often."""
    drawn: list[int] = []
    position = step * size
    while len(drawn) < size:
        epoch, offset = divmod(position + len(drawn), count)
        order = _order(count, seed, name, epoch)
        drawn += order[offset : offset + size - len(drawn)].tolist()
    return drawn
