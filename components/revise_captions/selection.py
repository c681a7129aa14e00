"""Selection of the rejected clips that a round revises; light to import, since most rounds have nothing to do."""

from __future__ import annotations

from collections.abc import Sequence

from common.config.recipes import Recipe
from common.errors import DataError
from common.records.clips import SyntheticClip


def due(rejected: Sequence[SyntheticClip], recipes: Sequence[Recipe], rounds: int, number: int) -> list[SyntheticClip]:
    """Select the clips for round `number`: rejected in the previous round, of recipes that have this round.

    Args:
        number: number of this round, from 1.

    Raises DataError: a clip has no recipe of the run.
    """
    allowed = {recipe.name: rounds if recipe.rounds is None else recipe.rounds for recipe in recipes}
    found = []
    for clip in rejected:
        if clip.recipe not in allowed:
            raise DataError(
                f"the rejected clip {clip.clip_id!r} has the recipe {clip.recipe!r}; expected one of "
                f"{', '.join(sorted(allowed)) or 'none'}; clips and settings must come from the same run"
            )
        if clip.round == number - 1 and number <= allowed[clip.recipe]:
            found.append(clip)
    return sorted(found, key=lambda clip: clip.clip_id)
