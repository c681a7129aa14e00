"""Budget: which clips each optimiser step sees, in equal number and class balance for every method.

A batch has a gold part and a slot. Both follow a stream of gold clips that depends only on the replicate. In the slot,
a synthetic clip replaces the gold clip of the same class wherever the method has one; everything else is equal across
methods. So methods differ neither in steps nor in examples nor in class balance, and paired differences vary less.
"""

from dataclasses import dataclass

import numpy as np

from common.runtime.seeding import epoch_rows


@dataclass(frozen=True)
class Budget:
    """Clip indices by step; gold clips are 0 … G-1, synthetic ones G … G+S-1.

    Attributes:
        gold: (steps, size of the gold part) integers below G.
        slot: (steps, size of the slot) integers below G + S.
    """

    gold: np.ndarray
    slot: np.ndarray

    @property
    def examples(self) -> int:
        """Number of examples seen over the whole training."""
        return int(self.gold.size + self.slot.size)


def make_budget(
    gold_labels: np.ndarray,
    synthetic_labels: np.ndarray,
    *,
    steps: int,
    batch_size: int,
    synthetic_fraction: float,
    seed: int,
) -> Budget:
    """Plan the batches of a whole training.

    Args:
        gold_labels: (G,) label ids, G ≥ 1.
        synthetic_labels: (S,) label ids; may be empty. Classes without synthetic clips keep gold clips in the slot.
        synthetic_fraction: share of the batch that is the slot.
    """
    slot_size = round(batch_size * synthetic_fraction)
    gold_size = batch_size - slot_size

    def drawn(clips: int, size: int, name: str) -> np.ndarray:
        return epoch_rows(clips, size, 0, seed, "budget", name)

    gold = drawn(len(gold_labels), steps * gold_size, "gold").reshape(steps, gold_size)
    slot = drawn(len(gold_labels), steps * slot_size, "slot").reshape(steps, slot_size)
    slot_labels = gold_labels[slot]
    for label in np.unique(synthetic_labels):
        of_label = np.flatnonzero(synthetic_labels == label)
        places = slot_labels == label
        order = drawn(len(of_label), int(places.sum()), f"synthetic {label}")
        slot[places] = len(gold_labels) + of_label[order]
    return Budget(gold, slot)
