"""Predictions of a classifier for clips; what its last linear layer sees, and its replacement."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, softmax
from torch import Tensor, nn

from common.audio.signal import fixed_window_starts
from common.classifier.features import fixed_window_features
from common.classifier.model import HEAD, Classifier

BATCH_SIZE = 32


def stream_logits(
    classifier: Classifier, blocks: Iterable[np.ndarray], samples: int, peak: float | None = None
) -> np.ndarray:
    """Logits (labels,) of one clip as `feature_logits` gives them, to rounding; memory holds one batch of windows.

    Args:
        blocks: the clip, mono (T,) float32 at the model's rate, in parts of any length.
        peak: largest sample of the clip, as `peak_of` gives it; needed where the front end scales clips.

    Raises DataError: a sample is not finite.
    """
    front_end = classifier.front_end
    total, count = np.zeros(len(classifier.labels), np.float32), 0
    lengths = front_end.max_length, front_end.frame_length, front_end.hop_length
    windows = stream_windows(blocks, samples, *lengths)
    while batch := list(islice(windows, BATCH_SIZE)):
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
    """Samples of each fixed window of a clip, which comes in parts (T,) of any length; memory holds one window."""
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


@torch.inference_mode()
def feature_logits(classifier: Classifier, features: Sequence[Tensor], batch_size: int = BATCH_SIZE) -> Tensor:
    """Logits (N, labels) from features (frames, bins) of whole clips, on the model's device: means over fixed windows.

    The last batch of windows is padded, so that results do not depend on the number of clips. The model is put into
    evaluation mode and left there.
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
    """Softmax over the labels of logits (…, labels), or the sigmoid of each; float64."""
    wide = logits.astype(np.float64)
    return np.asarray(expit(wide) if multi_label else softmax(wide, axis=-1))


def embeddings(classifier: Classifier, features: Sequence[Tensor]) -> NDArray[np.float32]:
    """(clips, width) input of the last linear layer, mean over each clip's fixed windows.

    The logits of a clip are the mean over its windows too, so that they are this layer's output for these features.
    """
    hook = last_layer(classifier).register_forward_hook(lambda _, inputs, __: inputs[0])
    try:
        rows = feature_logits(classifier, features)
    finally:
        hook.remove()
    return np.asarray(rows.cpu().numpy(), dtype=np.float32)


def last_layer(classifier: Classifier) -> nn.Linear:
    """The last linear layer of the head."""
    head = getattr(classifier.model, HEAD)
    return [layer for layer in [head, *head.modules()] if isinstance(layer, nn.Linear)][-1]


def set_last_layer(classifier: Classifier, weight: NDArray[np.floating], bias: NDArray[np.floating]) -> None:
    """Replace the weights of the last linear layer, (labels, width) and (labels,)."""
    layer = last_layer(classifier)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.asarray(weight, dtype=np.float32)))
        layer.bias.copy_(torch.from_numpy(np.asarray(bias, dtype=np.float32)))
