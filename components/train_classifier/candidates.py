"""Which trainings a run needs, and which of them stands for a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.config.classifier import TrainClassifierConfig
from common.config.methods import Augmentation, Method, Recipe
from common.runtime.seeding import derive_seed

CLASSICS: tuple[Augmentation, ...] = ("noise", "specaugment")
"""The field in which the best classic augmentation is chosen where a run lists none."""


Strength = float | str
"""Of an augmentation: see its configuration; of `audiomentations` the name of a combination."""


@dataclass(frozen=True)
class Candidate:
    """One training: a replicate, what fills the slot, and one classic augmentation at one strength.

    Attributes:
        factor: synthetic clips per gold clip, the first ones; None without a recipe.
        again: whether it trains from another seed than the other candidates of the replicate.
    """

    seed: int
    recipe: Recipe | None
    classic: Augmentation = "none"
    strength: Strength | None = None
    factor: int | None = None
    again: bool = False

    @property
    def training_seed(self) -> int:
        """Of weights and batches; the clips are those of `seed`."""
        return derive_seed(self.seed, "again") if self.again else self.seed

    @property
    def name(self) -> str:
        """For log lines."""
        parts = [f"{self.recipe.name} x{self.factor}" if self.recipe else "gold"]
        parts += ["again"] if self.again else []
        if self.strength is not None:
            shown = self.strength if isinstance(self.strength, str) else f"{self.strength:g}"
            parts.append(f"{self.classic}={shown}")
        return "+".join(parts) + f"/{self.seed}"


def strengths(classic: Augmentation, config: TrainClassifierConfig) -> tuple[Strength | None, ...]:
    """Strengths to try, weakest first; `(None,)` without augmentation."""
    found: tuple[Strength | None, ...] = (None,) if classic == "none" else getattr(config, classic).strengths
    return found


def classics_of(methods: Mapping[str, Method]) -> tuple[Augmentation, ...]:
    """The field in which `best` is chosen: the classic methods that the run lists, else `CLASSICS`."""
    used = [method.classic for method in methods.values() if method.classic != "best"]
    return tuple(dict.fromkeys(classic for classic in used if classic != "none")) or CLASSICS


def candidates_of(
    method: Method, seed: int, config: TrainClassifierConfig, factors: Sequence[int | None]
) -> list[Candidate]:
    """The trainings among which validation chooses for `method`; none when it waits for the best classic."""
    if method.classic == "best":
        return []
    if method.recipe is None or method.ceiling:
        factors = (None,)
    return [
        Candidate(seed, method.recipe, method.classic, strength, factor, method.again)
        for strength in strengths(method.classic, config)
        for factor in factors
    ]


def best_candidates(method: Method, best: Candidate, factors: Sequence[int]) -> list[Candidate]:
    """The trainings of a method of `best`, now that the best classic augmentation is known."""
    return [
        Candidate(best.seed, method.recipe, best.classic, best.strength, factor)
        for factor in (factors if method.recipe else (None,))
    ]


def classic_candidates(seed: int, config: TrainClassifierConfig, classics: Sequence[Augmentation]) -> list[Candidate]:
    """The classic augmentations of gold at all strengths."""
    return [Candidate(seed, None, classic, strength) for classic in classics for strength in strengths(classic, config)]


def first_phase(
    methods: Mapping[str, Method], seeds: Sequence[int], config: TrainClassifierConfig, factors: Sequence[int]
) -> list[Candidate]:
    """All distinct trainings that wait for no other."""
    found: dict[Candidate, None] = {}
    for seed in seeds:
        for method in methods.values():
            made = candidates_of(method, seed, config, factors)
            if method.classic == "best":
                made = classic_candidates(seed, config, classics_of(methods))
            found |= dict.fromkeys(made)
    return list(found)


def choose(
    candidates: Sequence[Candidate], results: Mapping[Candidate, Mapping[str, Any]], select_by: str
) -> Candidate | None:
    """The candidate that did best on validation; ties by lower validation loss, then the earlier one.

    Args:
        candidates: in order of preference among equals.
        results: figures of the finished ones.
        select_by: `accuracy` or `macro_f1`.

    Returns:
        None when none has finished.
    """
    finished = [candidate for candidate in candidates if candidate in results]
    return max(finished, key=lambda c: (results[c][f"val_{select_by}"], -results[c]["val_loss"]), default=None)
