"""Which trainings a run needs, and which of them stands for a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from common.config.classifier import TrainClassifierConfig
from common.methods import Method, Recipe

Augmentation = Literal["none", "noise", "specaugment"]
CLASSICS: tuple[Augmentation, ...] = ("noise", "specaugment")


@dataclass(frozen=True)
class Candidate:
    """One training: a replicate, what fills the slot, and one classic augmentation at one strength.

    Attributes:
        factor: synthetic clips per gold clip, the first ones; None without a recipe.
    """

    seed: int
    recipe: Recipe | None
    classic: Augmentation = "none"
    strength: float | None = None
    factor: int | None = None

    @property
    def name(self) -> str:
        """For log lines."""
        parts = [f"{self.recipe.name} x{self.factor}" if self.recipe else "gold"]
        parts += [] if self.classic == "none" else [f"{self.classic}={self.strength:g}"]
        return "+".join(parts) + f"/{self.seed}"


def strengths(classic: str, config: TrainClassifierConfig) -> tuple[float | None, ...]:
    """Strengths to try, weakest first; `(None,)` without augmentation."""
    if classic == "noise":
        return config.noise.strengths
    if classic == "specaugment":
        return config.specaugment.strengths
    return (None,)


def candidates_of(method: Method, seed: int, config: TrainClassifierConfig, factors: Sequence[int]) -> list[Candidate]:
    """The trainings among which validation chooses for `method`, or whose result `best` waits for."""
    if method.classic == "best":
        return classic_candidates(seed, config)
    return [
        Candidate(seed, method.recipe, method.classic, strength, factor)
        for strength in strengths(method.classic, config)
        for factor in (factors if method.recipe else (None,))
    ]


def best_candidates(method: Method, best: Candidate, factors: Sequence[int]) -> list[Candidate]:
    """The trainings of a method of `best`, now that the best classic augmentation is known."""
    return [
        Candidate(best.seed, method.recipe, best.classic, best.strength, factor)
        for factor in (factors if method.recipe else (None,))
    ]


def classic_candidates(seed: int, config: TrainClassifierConfig) -> list[Candidate]:
    """All classic augmentations of gold at all strengths: the field in which `best` is chosen."""
    return [Candidate(seed, None, classic, strength) for classic in CLASSICS for strength in strengths(classic, config)]


def first_phase(
    methods: Mapping[str, Method], seeds: Sequence[int], config: TrainClassifierConfig, factors: Sequence[int]
) -> list[Candidate]:
    """All distinct trainings that wait for no other."""
    found: dict[Candidate, None] = {}
    for seed in seeds:
        for method in methods.values():
            found |= dict.fromkeys(candidates_of(method, seed, config, factors))
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
