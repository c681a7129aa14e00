"""Which synthetic clips a method may use."""

from __future__ import annotations

from collections.abc import Sequence

from common.errors import DataError
from common.methods import LOSERS, Recipe
from common.records import SyntheticClip


def synthetic_clips(
    recipe: Recipe | None,
    seed: int,
    vanilla: Sequence[SyntheticClip],
    accepted: Sequence[SyntheticClip],
    *,
    augmentation_factor: int,
    rounds: int,
) -> list[SyntheticClip]:
    """The clips of a recipe in one replicate, ordered by id.

    Args:
        recipe: None = no synthetic clips. The losers' recipe takes from `vanilla`, any other from `accepted`.
        seed: the replicate.
        vanilla: clips of the unaligned model from template prompts; more than the factor may exist
            for one gold clip, the first ones count.
        accepted: accepted clips of all recipes, replicates and rounds.
        augmentation_factor: synthetic clips per gold clip.
        rounds: of the run, for recipes that do not say how many.
    """
    if recipe is None:
        return []
    if recipe.name == LOSERS.name:
        chosen = [clip for clip in vanilla if clip.seed == seed and clip.index < augmentation_factor]
    else:
        last = rounds if recipe.rounds is None else recipe.rounds
        chosen = [clip for clip in accepted if (clip.recipe, clip.seed) == (recipe.name, seed) and clip.round <= last]
    return sorted(chosen, key=lambda clip: clip.clip_id)


def check_labels(clips: Sequence[SyntheticClip], labels: Sequence[str]) -> None:
    """Every clip's label is the dataset's at its label id.

    Raises:
        DataError: one is not; the clips come from another dataset.
    """
    for clip in clips:
        if clip.label_id >= len(labels) or labels[clip.label_id] != clip.label:
            known = labels[clip.label_id] if clip.label_id < len(labels) else "nothing"
            raise DataError(
                f"synthetic clip {clip.clip_id} has label {clip.label!r} as number {clip.label_id}, which is {known!r} "
                "in this dataset; the clips were made for another one: make them again"
            )
