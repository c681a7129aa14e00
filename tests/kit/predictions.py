"""Logits of waveforms, for tests that compare with what a classifier says of whole clips."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.audio.signal import resample
from common.classifier.inference import BATCH_SIZE, feature_logits
from common.classifier.model import Classifier, load_classifier


def predict_logits(
    classifier: Classifier | Path, clips: Sequence[np.ndarray], sample_rate_hz: int, batch_size: int = BATCH_SIZE
) -> np.ndarray:
    """Logits (clips, labels) float32 of mono clips (T,), which are resampled to the classifier's rate."""
    loaded = load_classifier(classifier) if isinstance(classifier, Path) else classifier
    waveforms = [resample(clip, sample_rate_hz, loaded.sample_rate_hz) for clip in clips]
    logits = feature_logits(loaded, loaded.front_end(waveforms), batch_size)
    return np.asarray(logits.cpu().numpy(), dtype=np.float32)
