"""Predictions of a classifier for clips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.audio.signal import resample
from common.classifier.features import fixed_window_features, fixed_window_starts
from common.classifier.model import Classifier, load_classifier

BATCH_SIZE = 32


def predict_logits(
    classifier: Classifier | Path, clips: Sequence[np.ndarray], sample_rate_hz: int, batch_size: int = BATCH_SIZE
) -> np.ndarray:
    """Logits of each clip: the mean over its fixed windows.

    Args:
        clips: mono waveforms (T,), float32.
        sample_rate_hz: rate of the clips, which are resampled to the model's rate.
        batch_size: windows per pass; the last batch is padded to it, so that results do not depend
            on the number of clips.

    Returns:
        (clips, labels) float32.

    Raises:
        DataError: a clip is not mono or not finite, or the directory holds no classifier.
    """
    loaded = load_classifier(classifier) if isinstance(classifier, Path) else classifier
    rate = loaded.sample_rate_hz
    waveforms = [clip if sample_rate_hz == rate else resample(clip, sample_rate_hz, rate) for clip in clips]
    logits = feature_logits(loaded, loaded.front_end(waveforms), batch_size)
    return np.asarray(logits.cpu().numpy(), dtype=np.float32)


def stream_logits(
    classifier: Classifier,
    blocks: Iterable[np.ndarray],
    samples: int,
    batch_size: int = BATCH_SIZE,
    peak: float | None = None,
) -> np.ndarray:
    """Logits of one clip as `predict_logits` gives them, to rounding, while memory holds one batch of windows.

    Args:
        classifier: its model is put into evaluation mode and left there.
        blocks: the clip, mono (T,) float32 at the model's rate, in parts of any length.
        peak: largest sample of the clip, as `peak_of` gives it; needed where the front end scales clips.

    Returns:
        (labels,) float32.

    Raises:
        DataError: a sample is not finite.
    """
    front_end = classifier.front_end
    total, count = np.zeros(len(classifier.labels), np.float32), 0
    lengths = front_end.max_length, front_end.frame_length, front_end.hop_length
    for batch in _batches(stream_windows(blocks, samples, *lengths), batch_size):
        # Not padded: no other clip is in the batch, and for a short clip that would cost many times its own window.
        logits = feature_logits(classifier, front_end(batch, peak), len(batch))
        total += logits.sum(dim=0).cpu().numpy()
        count += len(batch)
    return np.asarray(total / count, dtype=np.float32)


def peak_of(blocks: Iterable[np.ndarray]) -> float:
    """Largest absolute sample of a clip (T,), which comes in parts."""
    return max((float(np.abs(block).max(initial=0.0)) for block in blocks), default=0.0)


def stream_windows(
    blocks: Iterable[np.ndarray], samples: int, max_length: int, frame_length: int = 1, hop_length: int = 1
) -> Iterator[np.ndarray]:
    """Samples of each fixed window of a clip, which comes in parts; memory holds one window.

    Args:
        blocks: the clip, mono (T,) float32, in parts of any length.
    """
    frames = 1 + max(0, samples - frame_length) // hop_length
    starts = fixed_window_starts(frames, max_length)
    length = samples if len(starts) == 1 else (max_length - 1) * hop_length + frame_length
    held, first = np.zeros(0, np.float32), 0
    waiting = iter(blocks)
    for start in starts:
        place = start * hop_length
        parts = [held[place - first :]]
        first = place
        while sum(map(len, parts)) < length and (block := next(waiting, None)) is not None:
            parts.append(block)
        held = np.concatenate(parts)
        yield held[:length]


def _batches(windows: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    waiting = iter(windows)
    while batch := list(islice(waiting, size)):
        yield batch


@torch.inference_mode()
def feature_logits(classifier: Classifier, features: Sequence[Tensor], batch_size: int = BATCH_SIZE) -> Tensor:
    """Logits as in `predict_logits`, from features that are already computed.

    Args:
        classifier: its model is put into evaluation mode and left there.
        features: (frames, bins) of each whole clip.
        batch_size: windows per pass.

    Returns:
        (clips, labels) float32, on the model's device.
    """
    model, front_end = classifier.model.eval(), classifier.front_end
    windows = [fixed_window_features(clip, front_end.max_length, front_end.pad_value) for clip in features]
    if not windows:
        return torch.zeros(0, model.config.num_labels, device=next(model.parameters()).device)
    stacked = torch.cat(windows)
    rows = []
    for batch in stacked.split(batch_size):
        padded = torch.nn.functional.pad(batch, (0, 0, 0, 0, 0, batch_size - len(batch)))
        rows.append(classifier.logits(padded)[: len(batch)].float())
    by_clip = torch.cat(rows).split([len(clip) for clip in windows])
    return torch.stack([logits.mean(dim=0) for logits in by_clip])


def probabilities(logits: np.ndarray, multi_label: bool = False) -> np.ndarray:
    """Softmax over the labels, or the sigmoid of each.

    Args:
        logits: (…, labels).
        multi_label: whether labels are independent.

    Returns:
        (…, labels) float64.
    """
    wide = logits.astype(np.float64)
    if multi_label:
        return 1.0 / (1.0 + np.exp(-wide))
    exponents = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=-1, keepdims=True))
