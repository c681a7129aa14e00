"""Quality of synthetic clips: an oracle's agreement with their labels, and their distance to the gold set."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from common.clap.figures import frechet_distance, kernel_distance
from common.contracts.evaluation import Distance, Distances, Heard, HeldOutDistance
from common.records.clips import SyntheticClip
from common.runtime.seeding import numpy_generator


def synthetic_sets(vanilla: Sequence[SyntheticClip], accepted: Sequence[SyntheticClip]) -> dict[str, list[int]]:
    """Sets of synthetic clips: names, and places of their clips in `vanilla` followed by `accepted`.

    Returns "vanilla", then one "{recipe}, accepted" for each recipe, in alphabetical order.
    """
    sets = {"vanilla": list(range(len(vanilla)))}
    for recipe in sorted({clip.recipe for clip in accepted}):
        sets[f"{recipe}, accepted"] = [len(vanilla) + i for i, clip in enumerate(accepted) if clip.recipe == recipe]
    return {name: places for name, places in sets.items() if places}


def label_accuracy(
    predicted: NDArray[np.int64],
    clips: Sequence[SyntheticClip],
    sets: Mapping[str, Sequence[int]],
    labels: Sequence[str],
) -> dict[str, Heard]:
    """Share of clips in which the oracle's top class `predicted` (M,) is the requested label, or one of several."""
    right = np.array(
        [p == clip.label_id or labels[p] in clip.further_labels for p, clip in zip(predicted, clips, strict=True)],
        dtype=np.float64,
    )
    of_label = np.array([clip.label_id for clip in clips])
    result = {}
    for name, places in sets.items():
        hits, ids = right[list(places)], of_label[list(places)]
        result[name] = Heard(
            clips=len(hits),
            accuracy=float(hits.mean()),
            per_class={labels[k]: float(hits[ids == k].mean()) for k in np.unique(ids)},
        )
    return result


def set_distances(
    gold: NDArray[np.float32],
    held_out: NDArray[np.float32],
    sets: Mapping[str, NDArray[np.float32]],
    seed: int,
    max_clips: int,
) -> Distances:
    """Fréchet and kernel distance of each set of embeddings to the gold training clips.

    The Fréchet distance is larger for fewer clips; every set is therefore subsampled to the size of the
    smallest one, at most `max_clips`. Sets of fewer than two clips are left out.

    Args:
        gold: (G, D).
        held_out: (H, D) of other real clips; their kernel distance is the value to compare with.
        sets: (M, D) by name.
    """
    sizes = [len(rows) for rows in sets.values() if len(rows) > 1]
    if len(gold) < 2 or not sizes:
        return Distances(gold_clips=len(gold), clips=0, sets={}, held_out=None)
    size = min([*sizes, max_clips])
    reference = _draw(gold, max_clips, seed, "gold")
    floor = None
    if len(held_out) > 1:
        others = _draw(held_out, max_clips, seed, "val")
        floor = HeldOutDistance(clips=len(others), kernel=kernel_distance(reference, others))
    drawn = {name: _draw(rows, size, seed, name) for name, rows in sets.items() if len(rows) > 1}
    return Distances(
        gold_clips=len(reference),
        clips=size,
        held_out=floor,
        sets={
            name: Distance(frechet=frechet_distance(reference, rows), kernel=kernel_distance(reference, rows))
            for name, rows in drawn.items()
        },
    )


def _draw(rows: NDArray[np.float32], size: int, seed: int, name: str) -> NDArray[np.float32]:
    if len(rows) <= size:
        return rows
    return rows[np.sort(numpy_generator(seed, "distance", name).choice(len(rows), size, replace=False))]
