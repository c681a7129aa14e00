from __future__ import annotations

import numpy as np
import pytest
import torch

from common.classifier.model import Classifier, with_fresh_head
from common.training import WHOLE, Part
from components.train_classifier.budget import Budget
from components.train_classifier.training import Examples, Mixing, batch_loss, draw_mixing

LABELS = ["a", "b", "c"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def examples(several: bool) -> Examples:
    rng = np.random.default_rng(0)
    features = [[torch.from_numpy(rng.standard_normal((48, 32)).astype(np.float32))] for _ in range(6)]
    labels = np.array([0, 1, 2, 0, 1, 2])
    targets = rng.integers(0, 2, (6, 3)).astype(np.float32) if several else None
    return Examples(features, labels, targets)


BUDGET = Budget(np.array([[0, 1]]), np.array([[3, 5]]))
CHOSEN = [0, 1, 3, 5]


@pytest.mark.parametrize("several", [False, True])
def test_the_loss_is_that_of_mixed_features_with_mixed_labels(classifier: Classifier, several: bool) -> None:
    data = examples(several)
    model = with_fresh_head(classifier, LABELS, seed=1, multi_label=several)
    found, _ = batch_loss(model, data, BUDGET, None, mixup_alpha=0.4)(0, generator(), WHOLE)
    drawn = generator()
    torch.rand(4, 2, generator=drawn, dtype=torch.float64)
    mixing = draw_mixing(4, 0.4, drawn)
    batch = torch.stack([data.features[index][0] for index in CHOSEN])
    hard = torch.eye(3)[data.labels[CHOSEN]] if data.targets is None else torch.from_numpy(data.targets[CHOSEN])
    soft = mixing.share * hard + (1 - mixing.share) * hard[mixing.partners]
    logits = model.model(mixing.share * batch + (1 - mixing.share) * batch[mixing.partners]).logits
    loss = torch.nn.functional.binary_cross_entropy_with_logits if several else torch.nn.functional.cross_entropy
    assert float(found.detach()) == pytest.approx(float(loss(logits, soft).detach()), abs=1e-6)


def test_the_parts_of_a_mixed_batch_average_to_the_whole(classifier: Classifier) -> None:
    loss = batch_loss(with_fresh_head(classifier, LABELS, seed=1), examples(False), BUDGET, None, mixup_alpha=1.0)
    whole = float(loss(0, generator(), WHOLE)[0].detach())
    parts = [float(loss(0, generator(), Part(index, 2))[0].detach()) for index in range(2)]
    assert np.mean(parts) == pytest.approx(whole, abs=1e-6)


def test_without_mixup_no_further_number_is_drawn(classifier: Classifier) -> None:
    model = with_fresh_head(classifier, LABELS, seed=1)
    used, expected = generator(), generator()
    batch_loss(model, examples(False), BUDGET, None)(0, used, WHOLE)
    torch.rand(4, 2, generator=expected, dtype=torch.float64)
    assert torch.equal(used.get_state(), expected.get_state())


def test_shares_follow_the_beta_distribution() -> None:
    drawn = generator()
    shares = np.array([draw_mixing(4, 0.4, drawn).share for _ in range(2000)])
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.1)


def test_a_pair_ends_with_the_longer_of_its_clips() -> None:
    batch = torch.tensor([[1.0, 1.0, float("nan")], [3.0, float("nan"), float("nan")]])[:, :, None]
    mixed = Mixing(0.25, torch.tensor([1, 0])).features(batch)[:, :, 0]
    expected = torch.tensor([[2.5, 0.25, float("nan")], [1.5, 0.75, float("nan")]])
    torch.testing.assert_close(mixed, expected, equal_nan=True)
