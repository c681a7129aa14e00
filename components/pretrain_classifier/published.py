"""A published checkpoint: get it, and make sure that it is what training needs."""

from __future__ import annotations

import numpy as np

from common.classifier.inference import predict_logits
from common.classifier.model import Classifier, load_classifier
from common.errors import DataError
from common.models import locate
from common.seeding import numpy_generator

FILES = ("config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json")


def get_published(checkpoint: str, revision: str | None) -> Classifier:
    """Download (or open) and verify a checkpoint.

    Args:
        checkpoint: hub id, or a directory.
        revision: commit on the hub; None for a directory.

    Raises:
        ConfigError: it cannot be had.
        DataError: it is damaged, is no Audio Spectrogram Transformer, or gives logits that are
            not finite.
    """
    classifier = load_classifier(locate(checkpoint, revision, FILES))
    noise = numpy_generator(0, "verify").standard_normal(classifier.sample_rate_hz).astype(np.float32) * 0.1
    logits = predict_logits(classifier, [noise], classifier.sample_rate_hz)
    if not np.isfinite(logits).all():
        raise DataError(f"{checkpoint}: logits of a second of noise are not finite; the weights are damaged")
    return classifier
