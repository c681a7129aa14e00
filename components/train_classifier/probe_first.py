"""The head of a fine-tuning that starts from a probe: first the head, then all layers (LP-FT, arXiv 2202.10054).

A random head pulls good features apart before it has learnt anything; a fitted one does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.classifier.inference import embeddings, probabilities, set_last_layer
from common.classifier.model import Classifier
from common.learners.calibration import cross_entropy
from common.learners.linear import fit_logistic
from components.train_classifier.training import Examples

LEAST_LOGIT = 5.0


def fit_head(
    classifier: Classifier,
    examples: Examples,
    gold_clips: int,
    validation: Examples | None,
    inverse_penalties: Sequence[float],
) -> None:
    """Replace the last layer of `classifier` by a logistic regression on the frozen features of the gold clips.

    Further clips come with the fine-tuning: every method starts from the same head.

    Args:
        classifier: a pretrained body with a fresh head.
        examples: gold clips first.
        validation: their loss chooses the penalty; None = the middle one.
        inverse_penalties: values of scikit-learn's C to choose from.
    """
    labels, multi_label = len(classifier.labels), classifier.multi_label

    def heard(clips: Examples, count: int) -> tuple[np.ndarray, np.ndarray]:
        truth = np.eye(labels)[clips.labels] if clips.targets is None else clips.targets.astype(np.float64)
        return embeddings(classifier, [variants[0] for variants in clips.features[:count]]), truth[:count]

    features, targets = heard(examples, gold_clips)
    fitted = [fit_logistic(features, targets, np.ones(gold_clips), c, multi_label) for c in inverse_penalties]
    best = fitted[len(fitted) // 2]
    if validation is not None:
        unseen, truth = heard(validation, len(validation.features))
        best = min(
            fitted, key=lambda head: cross_entropy(probabilities(head.logits(unseen), multi_label), truth, multi_label)
        )
    weight, bias = best.folded()
    # A label that no gold clip has may have synthetic ones: its logit is low, not out of reach.
    absent = ~weight.any(axis=1)
    set_last_layer(classifier, weight, np.where(absent, np.clip(bias, -LEAST_LOGIT, LEAST_LOGIT), bias))
