"""Contrastive training of CLAP on clips held in memory, and the figures that judge it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.audio import resample
from common.clap.model import contrastive_loss, freeze_batch_norm, soft_targets
from common.clap.scorer import ClapScorer, tokenize
from common.config.base import OptimConfig
from common.seeding import numpy_generator
from common.training import fit


def window_features(scorer: ClapScorer, clips: Iterable[np.ndarray], sample_rate_hz: int) -> tuple[Tensor, list[int]]:
    """Features of the windows of all clips.

    Args:
        scorer: its features are used.
        clips: mono (T,) arrays in [-1, 1].
        sample_rate_hz: of all the clips.

    Returns:
        (W, 1 or 4, frames, mel_bins), and for each row the index of its clip.
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
    features: Tensor,
    captions: Sequence[Sequence[str]],
    keys: Sequence[str | None],
    optim: OptimConfig,
    *,
    seed: int,
    name: str,
    equalizer_db: float = 0.0,
    checkpoint_dir: Path | None = None,
) -> list[dict[str, float]]:
    """Train the scorer's model in place.

    Args:
        scorer: holds the model; left in evaluation mode.
        features: (N, 1 or 4, frames, mel_bins), one row per window.
        captions: of each row, one or more wordings; a step takes one by chance.
        keys: of each row; two rows match each other's text where keys are equal, or, where a key
            is null, where captions are.
        optim: steps, rate, schedule.
        seed: enters every draw.
        name: for log lines.
        equalizer_db: see `equalized`; 0 = none.
        checkpoint_dir: where unfinished work is kept.

    Returns:
        The curve of `common.training.fit`.
    """
    model = scorer.model
    freeze_batch_norm(model)

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        freeze_batch_norm(model)
        chosen = _batch(len(features), optim.batch_size, step, seed, name)
        drawn = torch.randint(0, 2**31 - 1, (len(chosen),), generator=generator).tolist()
        texts = [captions[i][number % len(captions[i])] for i, number in zip(chosen, drawn, strict=True)]
        ids, mask = tokenize(scorer.tokenizer, texts, model)
        matching = [keys[i] if keys[i] is not None else text for i, text in zip(chosen, texts, strict=True)]
        device = model.device
        heard = equalized(features[chosen], equalizer_db, generator) if equalizer_db else features[chosen]
        value, accuracy = contrastive_loss(
            model, heard.to(device), ids.to(device), mask.to(device), soft_targets(matching).to(device)
        )
        return value, {"batch_accuracy": accuracy}

    curve = fit(model, loss, optim, seed=seed, name=name, checkpoint_dir=checkpoint_dir)
    model.eval()
    return curve


def equalized(features: Tensor, deviation_db: float, generator: torch.Generator) -> Tensor:
    """Each spectrogram through a random smooth equaliser (FilterAugment, arXiv 2110.03282).

    Args:
        features: (B, C, frames, mel_bins), dB.
        deviation_db: standard deviation of the gain at each of six points over the bands.
        generator: draws the gains.
    """
    points = deviation_db * torch.randn(len(features), 1, 6, generator=generator)
    gains = torch.nn.functional.interpolate(points, features.shape[-1], mode="linear", align_corners=True)
    return features + gains[:, :, None, :]


def _batch(count: int, size: int, step: int, seed: int, name: str) -> list[int]:
    """Rows of `step`: epochs are permutations, so each clip is seen equally often."""
    drawn: list[int] = []
    position = step * size
    while len(drawn) < size:
        epoch, offset = divmod(position + len(drawn), count)
        order = numpy_generator(seed, name, "epoch", epoch).permutation(count)
        drawn += order[offset : offset + size - len(drawn)].tolist()
    return drawn


def matched_auc(similarity: np.ndarray, own: Sequence[int]) -> float:
    """Chance that a clip's similarity to its own text exceeds a clip's similarity to another's.

    Args:
        similarity: (N, K) cosines of clips and texts.
        own: for each clip, the index of its text.

    Returns:
        Area under the ROC curve of matched against other pairs; NaN without other pairs.
    """
    matched = np.zeros(similarity.shape, dtype=bool)
    matched[np.arange(len(own)), list(own)] = True
    positive, negative = np.sort(similarity[matched]), np.sort(similarity[~matched])
    if not len(positive) or not len(negative):
        return float("nan")
    below = np.searchsorted(negative, positive, side="left")
    up_to = np.searchsorted(negative, positive, side="right")
    return float((below + up_to).mean() / 2 / len(negative))


def retrieval_figures(similarity: np.ndarray, own: Sequence[int]) -> dict[str, float]:
    """AUC of matched against other pairs, top-1 accuracy, and mean cosine of either."""
    rows = np.arange(len(own))
    matched = similarity[rows, list(own)]
    others = similarity.shape[1] - 1
    return {
        "auc": matched_auc(similarity, own),
        "accuracy": float((similarity.argmax(1) == np.asarray(own)).mean()),
        "matched_cosine": float(matched.mean()),
        "other_cosine": float((similarity.sum() - matched.sum()) / max(1, len(own) * others)),
    }
