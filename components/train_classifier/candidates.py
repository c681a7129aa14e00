"""Candidates: the trainings that a run needs, and the choice of one of them for each method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.config.methods import Method
from common.config.recipes import Recipe
from common.config.train_classifier import TrainClassifierConfig
from common.contracts.training import Strength, Training
from common.runtime.seeding import derive_seed

CLASSICS: tuple[str, ...] = ("noise", "specaugment")
"""Classic augmentations among which the best one is chosen where a run lists none."""


@dataclass(frozen=True)
class Candidate:
    """One training: a replicate, the recipe of the slot, and one classic augmentation at one strength.

    Attributes:
        recipe: recipe of the synthetic clips in the slot; None = gold only.
        factor: number of synthetic clips per gold clip; None = all, or no recipe.
        again: whether the training seed differs from that of the replicate's other candidates.
    """

    replicate: int
    recipe: Recipe | None
    classic: str = "none"
    strength: Strength | None = None
    factor: int | None = None
    again: bool = False

    @property
    def training_seed(self) -> int:
        """Seed of weights and batches; `replicate` decides the clips."""
        return derive_seed(self.replicate, "again") if self.again else self.replicate

    def __str__(self) -> str:
        parts = [f"{self.recipe.name} x{self.factor}" if self.recipe else "gold"]
        parts += ["again"] if self.again else []
        if self.strength is not None:
            shown = self.strength if isinstance(self.strength, str) else f"{self.strength:g}"
            parts.append(f"{self.classic}={shown}")
        return "+".join(parts) + f"/{self.replicate}"


def strengths(classic: str, config: TrainClassifierConfig) -> tuple[Strength | None, ...]:
    """Strengths of an augmentation to try, weakest first; `(None,)` without augmentation."""
    found: tuple[Strength | None, ...] = (None,) if classic == "none" else getattr(config, classic).strengths
    return found


def classics_of(methods: Mapping[str, Method]) -> tuple[str, ...]:
    """Augmentations among which `best` is chosen: the classic methods of the run, else `CLASSICS`."""
    used = [method.classic for method in methods.values() if method.classic != "best"]
    return tuple(dict.fromkeys(classic for classic in used if classic != "none")) or CLASSICS


def candidates_of(
    method: Method,
    replicate: int,
    config: TrainClassifierConfig,
    factors: Sequence[int | None],
    best: Candidate | None = None,
) -> list[Candidate]:
    """Trainings among which validation chooses for `method`.

    Args:
        best: best classic augmentation of the replicate; until it is known a method that uses it has no trainings.
    """
    if method.classic != "best":
        augmented = [(method.classic, strength) for strength in strengths(method.classic, config)]
    else:
        augmented = [(best.classic, best.strength)] if best else []
    if method.recipe is None or method.ceiling:
        factors = (None,)
    return [
        Candidate(replicate, method.recipe, classic, strength, factor, method.again)
        for classic, strength in augmented
        for factor in factors
    ]


def classic_candidates(replicate: int, config: TrainClassifierConfig, classics: Sequence[str]) -> list[Candidate]:
    """Trainings on gold alone with each classic augmentation at all strengths."""
    return [
        Candidate(replicate, None, classic, strength) for classic in classics for strength in strengths(classic, config)
    ]


def first_phase(
    methods: Mapping[str, Method], replicates: Sequence[int], config: TrainClassifierConfig, factors: Sequence[int]
) -> list[Candidate]:
    """All distinct trainings that depend on no other training."""
    found: dict[Candidate, None] = {}
    for replicate in replicates:
        for method in methods.values():
            made = candidates_of(method, replicate, config, factors)
            if method.classic == "best":
                made = classic_candidates(replicate, config, classics_of(methods))
            found |= dict.fromkeys(made)
    return list(found)


def choose(candidates: Sequence[Candidate], results: Mapping[Candidate, Training], select_by: str) -> Candidate | None:
    """The finished candidate that does best on validation; ties go to the lower loss, then to the earlier candidate."""
    finished = [candidate for candidate in candidates if candidate in results]
    return max(finished, key=lambda c: (results[c].figure(select_by), -(results[c].val_loss or 0.0)), default=None)
