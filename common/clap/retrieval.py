"""Retrieval figures of a CLAP: text by clip and clip by text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from common.clap.scorer import ClapScorer, audio_embeddings

TOP = (1, 5, 10)
"""Ranks k of recall at k."""


@torch.inference_mode()
def embed_features(scorer: ClapScorer, clips: Iterable[Tensor]) -> np.ndarray:
    """Embed clips as `ClapScorer.embed_audio` does, from features that are already computed.

    Args:
        scorer: its model is put into evaluation mode and left there.
        clips: (W, 1 or 4, frames, mel_bins) of each clip, one row per window.

    Returns (B, D) float32, rows of norm 1.
    """
    scorer.model.eval()
    windows = [window for clip in clips for window in _marked(clip)]
    sums, total = list[np.ndarray](), np.zeros(scorer.dim)
    for start in range(0, len(windows), scorer.batch_size):
        batch = windows[start : start + scorer.batch_size]
        features = torch.stack([window for window, _ in batch])
        padded = torch.nn.functional.pad(features, (0, 0) * 3 + (0, scorer.batch_size - len(batch)))
        embedded = audio_embeddings(scorer.model, padded.to(scorer.model.device))[: len(batch)]
        for row, (_, last) in zip(embedded.double().cpu().numpy(), batch, strict=True):
            total = total + row
            if last:
                sums.append(total)
                total = np.zeros(scorer.dim)
    rows = np.array(sums).reshape(len(sums), scorer.dim)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12), dtype=np.float32)


def _marked(clip: Tensor) -> list[tuple[Tensor, bool]]:
    return [(window, place == len(clip) - 1) for place, window in enumerate(clip)]


def matched_auc(similarity: np.ndarray, own: Sequence[int]) -> float:
    """Probability that a clip's similarity to its own text exceeds a clip's similarity to another text.

    Args:
        similarity: (N, K) cosines of clips and texts.

    Returns area under the ROC curve of matched against other pairs; NaN without other pairs.
    """
    matched = _matched(similarity, own)
    positive, negative = np.sort(similarity[matched]), np.sort(similarity[~matched])
    if not len(positive) or not len(negative):
        return float("nan")
    below = np.searchsorted(negative, positive, side="left")
    up_to = np.searchsorted(negative, positive, side="right")
    return float((below + up_to).mean() / 2 / len(negative))


def retrieval_figures(similarity: np.ndarray, own: Sequence[int]) -> dict[str, float]:
    """AUC of matched against other pairs, top-1 accuracy, and mean cosines of both kinds of pairs."""
    rows = np.arange(len(own))
    matched = similarity[rows, list(own)]
    others = similarity.shape[1] - 1
    return {
        "auc": matched_auc(similarity, own),
        "accuracy": float((similarity.argmax(1) == np.asarray(own)).mean()),
        "matched_cosine": float(matched.mean()),
        "other_cosine": float((similarity.sum() - matched.sum()) / max(1, len(own) * others)),
    }


def rank_figures(similarity: np.ndarray, own: Sequence[int]) -> dict[str, float]:
    """Recall at 1, 5 and 10 and median rank, of texts given a clip and of clips given a text.

    The rank of a query is that of its best match among all non-matching items. Among equal similarities the
    match ranks last, so a model that gives all pairs the same similarity has no recall.

    Args:
        similarity: (N, K) cosines of clips and distinct texts.
        own: for each clip, the index of its text; each text belongs to at least one clip.

    Returns `audio_to_text_r1`, …, `audio_to_text_median_rank`, and the same for `text_to_audio`.
    """
    matched = _matched(similarity, own)
    figures: dict[str, float] = {}
    for name, values, matches in (("audio_to_text", similarity, matched), ("text_to_audio", similarity.T, matched.T)):
        best = np.where(matches, values, -np.inf).max(axis=1, keepdims=True)
        ranks = 1 + ((values >= best) & ~matches).sum(axis=1)
        figures |= {f"{name}_r{top}": float((ranks <= top).mean()) for top in TOP}
        figures[f"{name}_median_rank"] = float(np.median(ranks))
    return figures


def _matched(similarity: np.ndarray, own: Sequence[int]) -> np.ndarray:
    matched = np.zeros(similarity.shape, dtype=bool)
    matched[np.arange(len(own)), list(own)] = True
    return matched
