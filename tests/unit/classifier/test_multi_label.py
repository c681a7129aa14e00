"""Clips of several labels: loss, figures, training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score

from common.classifier.model import Classifier, load_classifier, save_classifier, with_fresh_head
from common.classifier.scores import multi_label_macro_f1, multi_label_map
from common.config.base import OptimConfig
from components.train_classifier.budget import make_budget
from components.train_classifier.training import Examples, example_losses, figures_of, train

OPTIM = OptimConfig(steps=120, batch_size=8, learning_rate=5e-3, record_every=30, evaluate_every=30)


def examples(count: int, seed: int) -> Examples:
    """Each of three bands sounds or not; at least one does."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, (count, 3)).astype(np.float32)
    targets[np.arange(count), rng.integers(0, 3, count)] = 1
    features = []
    for row in targets:
        clip = 0.3 * rng.standard_normal((48, 32))
        for label in np.flatnonzero(row):
            clip[:, 10 * label : 10 * label + 8] += 1.0
        features.append([torch.from_numpy(clip.astype(np.float32))])
    return Examples(features, targets.argmax(axis=1), targets)


def test_the_loss_of_an_example_is_the_mean_binary_cross_entropy_over_its_labels() -> None:
    logits, truth = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]])
    expected = (np.log(2) + np.log1p(np.exp(2))) / 2
    assert float(example_losses(logits, truth)) == pytest.approx(expected, abs=1e-6)


def test_figures_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, scores = rng.random((30, 4)) < 0.3, rng.random((30, 4))
        truth[0] = True
        expected = f1_score(truth, scores >= 0.5, average="macro", zero_division=0)
        assert multi_label_macro_f1(truth, scores) == pytest.approx(expected)
        assert multi_label_map(truth, scores) == pytest.approx(average_precision_score(truth, scores, average="macro"))


def test_labels_that_occur_nowhere_do_not_count() -> None:
    truth, scores = np.array([[1, 0], [1, 0]]), np.array([[0.9, 0.1], [0.8, 0.2]])
    assert multi_label_macro_f1(truth, scores) == multi_label_map(truth, scores) == 1
    assert multi_label_macro_f1(truth, np.zeros((2, 2))) == 0


def test_every_label_of_a_clip_is_learned(classifier: Classifier, tmp_path) -> None:
    fresh = with_fresh_head(classifier, ["a", "b", "c"], seed=3, multi_label=True)
    data, validation = examples(24, 0), examples(40, 1)
    budget = make_budget(
        data.labels, np.array([], dtype=np.int64), steps=OPTIM.steps, batch_size=8, synthetic_fraction=0.5,
        seed=0,
    )  # fmt: skip
    result = train(fresh, data, validation, budget, OPTIM, select_by="map", specaugment=None, seed=1)
    assert "val_accuracy" not in result
    assert result["val_map"] > 0.9
    assert result["val_macro_f1"] > 0.8
    save_classifier(fresh, tmp_path)
    again = load_classifier(tmp_path)
    assert again.multi_label and not classifier.multi_label
    assert figures_of(again, validation)["val_map"] == result["val_map"]
