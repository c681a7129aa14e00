from __future__ import annotations

import numpy as np

from components.train_classifier.budget import Budget, make_budget

GOLD = np.array([0, 0, 0, 1, 1, 2])
SYNTHETIC = np.array([0, 0, 1, 1, 1])
NONE = np.array([], dtype=np.int64)


def budget(synthetic: np.ndarray, **changes: object) -> Budget:
    settings = {"steps": 40, "batch_size": 6, "synthetic_fraction": 0.5, "seed": 3}
    return make_budget(GOLD, synthetic, **{**settings, **changes})  # type: ignore[arg-type]


def classes(indices: np.ndarray, synthetic: np.ndarray) -> np.ndarray:
    return np.concatenate([GOLD, synthetic])[indices]


def test_every_method_sees_the_same_classes_at_each_step() -> None:
    gold = budget(NONE)
    for synthetic in (SYNTHETIC, SYNTHETIC[:2], np.array([2])):
        other = budget(synthetic)
        assert other.examples == gold.examples == 40 * 6
        np.testing.assert_array_equal(gold.gold, other.gold)
        np.testing.assert_array_equal(classes(gold.slot, NONE), classes(other.slot, synthetic))


def test_synthetic_clips_fill_exactly_the_slots_of_their_classes() -> None:
    slot = budget(SYNTHETIC).slot
    is_synthetic = slot >= len(GOLD)
    np.testing.assert_array_equal(is_synthetic, classes(slot, SYNTHETIC) != 2)


def test_without_synthetic_clips_gold_fills_the_slot() -> None:
    assert (budget(NONE).slot < len(GOLD)).all()


def test_clips_are_used_equally_often() -> None:
    made = budget(SYNTHETIC)
    gold = np.bincount(made.gold.ravel(), minlength=len(GOLD))
    assert gold.min() == gold.max() == 20
    used = np.bincount(made.slot.ravel() - len(GOLD) * (made.slot.ravel() >= len(GOLD)), minlength=5)
    assert used.sum() == made.slot.size
    first_class = [np.sum(made.slot == len(GOLD) + index) for index in (0, 1)]
    assert abs(first_class[0] - first_class[1]) <= 1


def test_the_order_depends_on_the_seed() -> None:
    np.testing.assert_array_equal(budget(SYNTHETIC).slot, budget(SYNTHETIC).slot)
    assert (budget(NONE).gold != budget(NONE, seed=4).gold).any()


def test_one_gold_clip_is_enough() -> None:
    made = make_budget(np.array([0]), NONE, steps=2, batch_size=4, synthetic_fraction=0.25, seed=0)
    assert made.gold.shape == (2, 3)
    assert made.slot.tolist() == [[0], [0]]
