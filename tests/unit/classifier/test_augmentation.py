from __future__ import annotations

import numpy as np
import torch
from sklearn.metrics import f1_score

from common.classifier.augmentation import spec_augment
from common.classifier.scores import accuracy, macro_f1
from common.config.classifier import SpecAugmentConfig


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_masks_cover_at_most_their_share_of_each_axis_and_reach_it() -> None:
    config = SpecAugmentConfig(masks=1, time_roll_s=0.0)
    masked = spec_augment(torch.ones(500, 40, 20), config, 0.25, 100.0, generator()) == 0
    frames = masked.all(dim=2).sum(dim=1)
    bins = masked.all(dim=1).sum(dim=1)
    assert frames.max() == 10
    assert bins.max() == 5
    assert frames.min() == 0


def test_masked_bands_lie_anywhere() -> None:
    masked = spec_augment(torch.ones(2000, 12, 12), SpecAugmentConfig(masks=1), 0.3, 100.0, generator()) == 0
    assert masked.all(dim=2).any(dim=0).all()
    assert masked.all(dim=1).any(dim=0).all()


def test_the_roll_only_moves_frames() -> None:
    features = torch.arange(30.0)[None, :, None].expand(50, 30, 2).contiguous()
    config = SpecAugmentConfig(time_roll_s=0.05)
    rolled = spec_augment(features, config, 0.0, 100.0, generator())
    shifts = (features[:, 0, 0] - rolled[:, 0, 0]) % 30
    assert torch.equal(rolled.sort(dim=1).values, features)
    assert set(shifts.int().tolist()) <= {0, 1, 2, 3, 4, 5, 25, 26, 27, 28, 29}
    assert len(set(shifts.int().tolist())) > 5


def test_augmentation_is_seeded_and_leaves_its_input() -> None:
    features = torch.randn(4, 20, 10, generator=generator())
    before = features.clone()
    config = SpecAugmentConfig(time_roll_s=0.1)
    first = spec_augment(features, config, 0.4, 100.0, generator(1))
    assert torch.equal(first, spec_augment(features, config, 0.4, 100.0, generator(1)))
    assert not torch.equal(first, spec_augment(features, config, 0.4, 100.0, generator(2)))
    assert torch.equal(features, before)


def test_strength_does_not_change_how_many_numbers_are_drawn() -> None:
    left, right = generator(3), generator(3)
    spec_augment(torch.ones(4, 20, 10), SpecAugmentConfig(), 0.1, 100.0, left)
    spec_augment(torch.ones(4, 20, 10), SpecAugmentConfig(), 0.5, 100.0, right)
    assert torch.equal(left.get_state(), right.get_state())


def test_scores_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, predicted = rng.integers(0, 5, 30), rng.integers(0, 6, 30)
        assert np.isclose(macro_f1(truth, predicted), f1_score(truth, predicted, average="macro"))
        assert accuracy(truth, predicted) == (truth == predicted).mean()
