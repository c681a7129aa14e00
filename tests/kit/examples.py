"""Examples of a classifier's training, as features."""

from __future__ import annotations

import numpy as np
import torch

from components.train_classifier.training import Examples


def examples(per_class: int, seed: int, classes: int = 3, shuffled: bool = False) -> Examples:
    """Spectrograms (48, 32) of noise, louder in eight bands of each class's own."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    features = []
    for label in labels:
        clip = 0.3 * rng.standard_normal((48, 32))
        clip[:, 10 * label : 10 * label + 8] += 1.0
        features.append([torch.from_numpy(clip.astype(np.float32))])
    return Examples(features, rng.permutation(labels) if shuffled else labels)
