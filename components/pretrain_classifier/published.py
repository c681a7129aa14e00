"""A published checkpoint: get it, and make sure that it is what training needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.classifier.inference import predict_logits
from common.classifier.model import Classifier, load_classifier
from common.errors import DataError
from common.seeding import numpy_generator

FILES = ("config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json")


def get_published(checkpoint: str, revision: str | None) -> Classifier:
    """Download (or open) and verify a checkpoint.

    Args:
        checkpoint: hub id, or a directory.
        revision: commit on the hub; None for a directory.

    Raises:
        DataError: it cannot be had, is no Audio Spectrogram Transformer, or gives logits that are
            not finite.
    """
    classifier = load_classifier(_folder(checkpoint, revision))
    noise = numpy_generator(0, "verify").standard_normal(classifier.sample_rate_hz).astype(np.float32) * 0.1
    logits = predict_logits(classifier, [noise], classifier.sample_rate_hz)
    if not np.isfinite(logits).all():
        raise DataError(f"{checkpoint}: logits of a second of noise are not finite; the weights are damaged")
    return classifier


def _folder(checkpoint: str, revision: str | None) -> Path:
    if Path(checkpoint).is_dir():
        return Path(checkpoint)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(checkpoint, revision=revision, allow_patterns=list(FILES)))
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot get checkpoint {checkpoint!r} at revision {revision}: {type(error).__name__}: {error}; "
            "allow access to the hub, or set pretrain_classifier.checkpoint to a directory and revision to null"
        ) from error
