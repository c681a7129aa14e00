"""A published checkpoint: get it, and make sure that it is what training needs."""

from __future__ import annotations

import numpy as np

from common.classifier.inference import predict_logits
from common.classifier.model import Classifier, load_classifier
from common.errors import DataError
from common.models import locate
from common.seeding import numpy_generator

FILES = ("config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json")


def get_published(checkpoint: str, revision: str | None, window_s: float) -> Classifier:
    """Download (or open) and verify a checkpoint.

    Args:
        checkpoint: hub id, or a directory.
        revision: commit on the hub; None for a directory.
        window_s: see `load_classifier`.

    Raises:
        ConfigError: it cannot be had, or takes features of a kind that is not supported.
        DataError: it is damaged, is no audio classifier, or gives logits that are not finite.
    """
    classifier = load_classifier(locate(checkpoint, revision, FILES), window_s)
    noise = numpy_generator(0, "verify").standard_normal(classifier.sample_rate_hz).astype(np.float32) * 0.1
    logits = predict_logits(classifier, [noise], classifier.sample_rate_hz)
    if not np.isfinite(logits).all():
        raise DataError(f"{checkpoint}: logits of a second of noise are not finite; the weights are damaged")
    return classifier
