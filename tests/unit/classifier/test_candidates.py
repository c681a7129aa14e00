from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from common.config.augmentations import Audiomentations, Combination, Noise
from common.config.clap import Keep
from common.config.classifier import SpecAugmentConfig
from common.config.methods import DEFAULT_METHODS, METHODS
from common.config.recipes import LOSERS, Recipe
from common.config.train_classifier import TrainClassifierConfig
from common.contracts.training import Training
from common.errors import DataError
from common.records.clips import SyntheticClip
from components.train_classifier.candidates import (
    CLASSICS,
    Candidate,
    candidates_of,
    choose,
    classic_candidates,
    classics_of,
    first_phase,
    strengths,
)
from components.train_classifier.clips import ClipSet, check_labels, synthetic_clips
from tests.kit.clips import generated_clip, gold_clip
from tests.kit.figures import chosen

CONFIG = TrainClassifierConfig()


def clip(recipe: str, replicate: int, index: int, round_: int, label_id: int = 0) -> SyntheticClip:
    return generated_clip(recipe, replicate, "g", index, round_, label_id=label_id)


def test_every_classic_has_at_least_three_strengths() -> None:
    for classic in classics_of(METHODS):
        assert len(strengths(classic, CONFIG)) >= 3
    with pytest.raises(ValidationError):
        Noise(strengths=(10.0, 5.0))
    with pytest.raises(ValidationError):
        SpecAugmentConfig(strengths=(0.1,))
    with pytest.raises(ValidationError):
        Audiomentations(combinations={"usual": Combination()})


def test_combinations_are_chosen_among_as_strengths_are_and_another_one_is_a_record_of_the_configuration() -> None:
    made = candidates_of(METHODS["audiomentations"], 0, CONFIG, (2,))
    assert [str(candidate) for candidate in made] == [
        f"gold+audiomentations={name}/0" for name in ("gentle", "usual", "strong")
    ]
    combinations = {**CONFIG.audiomentations.combinations, "own": Combination(shift=1.0)}
    more = CONFIG.model_copy(update={"audiomentations": Audiomentations(combinations=combinations)})
    assert len(candidates_of(METHODS["audiomentations"], 0, more, (2,))) == 4
    results = {c: chosen(val_accuracy=0.1 * i) for i, c in enumerate(made)}
    assert choose(made, results, "accuracy") == made[2]


def test_the_default_methods_need_thirty_trainings_in_three_replicates() -> None:
    methods = {name: METHODS[name] for name in DEFAULT_METHODS}
    first = first_phase(methods, (0, 1, 2), CONFIG, (2,))
    assert len(first) == len(set(first)) == 3 * (1 + 3 + 3 + 1 + 1)


def test_best_classic_alone_still_trains_the_classics_first() -> None:
    first = first_phase({"synthio_classic": METHODS["synthio_classic"]}, (0,), CONFIG, (1, 2))
    assert first == classic_candidates(0, CONFIG, CLASSICS)


def test_the_best_classic_is_chosen_among_those_that_the_run_lists() -> None:
    listed = {name: METHODS[name] for name in ("gold", "audiomentations", "synthio_classic")}
    assert classics_of(listed) == ("audiomentations",)
    assert classics_of({"gold": METHODS["gold"]}) == CLASSICS
    first = first_phase(listed, (0,), CONFIG, (2,))
    assert {candidate.classic for candidate in first} == {"none", "audiomentations"}


def test_every_factor_is_a_candidate_of_methods_with_synthetic_clips_only() -> None:
    synthio = candidates_of(METHODS["synthio"], 0, CONFIG, (1, 2, 4, 8))
    assert [candidate.factor for candidate in synthio] == [1, 2, 4, 8]
    assert [candidate.factor for candidate in candidates_of(METHODS["gold"], 0, CONFIG, (1, 2))] == [None]
    best = classic_candidates(0, CONFIG, CLASSICS)[0]
    assert candidates_of(METHODS["synthio_classic"], 0, CONFIG, (1, 2)) == []
    both = candidates_of(METHODS["synthio_classic"], 0, CONFIG, (1, 2), best)
    assert [(candidate.classic, candidate.factor) for candidate in both] == [("noise", 1), ("noise", 2)]


def test_a_smaller_factor_takes_the_first_clips_of_every_gold_clip() -> None:
    clips = tuple(clip("r", 0, index, 0) for index in range(4))
    whole = ClipSet(tuple((found.clip_id, "0", 0) for found in clips), Path(), clips)
    assert [found.index for found in whole.first(2).clips] == [0, 1]
    assert whole.first(2).identity == whole.identity[:2]
    assert whole.first(None) is whole and whole.first(8) is whole


def test_choice_is_by_score_then_loss_then_order() -> None:
    candidates = candidates_of(METHODS["noise"], 0, CONFIG, (1, 2, 4, 8))

    def figures(accuracy: float, loss: float, f1: float = 0.0) -> Training:
        return chosen(val_accuracy=accuracy, val_loss=loss, val_macro_f1=f1)

    results = dict(zip(candidates, [figures(0.5, 1.0), figures(0.6, 2.0), figures(0.6, 1.5)], strict=True))
    assert choose(candidates, results, "accuracy") == candidates[2]
    results[candidates[1]] = figures(0.6, 1.5)
    assert choose(candidates, results, "accuracy") == candidates[1]
    results[candidates[0]] = figures(0.1, 9.0, f1=0.9)
    assert choose(candidates, results, "macro_f1") == candidates[0]
    del results[candidates[0]]
    assert choose(candidates, results, "macro_f1") == candidates[1]
    assert choose(candidates, {}, "accuracy") is None


def test_equal_trainings_are_one_candidate() -> None:
    recipe = METHODS["synthio"].recipe
    assert Candidate(0, recipe) == Candidate(0, Recipe.model_validate(recipe.model_dump()))  # type: ignore[union-attr]


def test_clips_are_those_of_recipe_replicate_and_rounds() -> None:
    synthio, frozen = METHODS["synthio"].recipe, METHODS["synthio_no_reflection"].recipe
    name = synthio.name  # type: ignore[union-attr]
    accepted = [clip(name, 0, 0, 0), clip(name, 0, 1, 1), clip(name, 0, 2, 2), clip(name, 1, 0, 0)]
    accepted.append(clip("other", 0, 0, 0))
    vanilla = [clip(LOSERS.name, 0, index, 0) for index in range(4)]

    def ids(recipe: Recipe | None) -> list[tuple[int, int]]:
        assert recipe is not None
        found = synthetic_clips(recipe, 0, [*vanilla, *accepted], augmentation_factor=2, rounds=1)
        return [(found_clip.index, found_clip.round) for found_clip in found]

    assert ids(synthio) == [(0, 0), (1, 1)]
    assert ids(frozen) == [(0, 0)]
    assert ids(LOSERS) == [(0, 0), (1, 0)]


def test_of_a_surplus_each_class_takes_the_wanted_number_by_the_second_judge() -> None:
    recipe = METHODS["synthio"].recipe
    assert recipe is not None
    train = [gold_clip("g0"), gold_clip("g1"), gold_clip("h0", "b", 1)]
    sure: dict[str, list[float | None]] = {"a": [0.9, 0.2, 0.6, 0.4, 0.7, 0.3, None], "b": [0.5, 0.8, 0.1]}
    accepted = [
        generated_clip(recipe.name, 0, f"{label}{number}", number, label=label, second_probability=probability)
        for label, found in sure.items()
        for number, probability in enumerate(found)
    ]

    def taken(keep: Keep, factor: int) -> dict[str, list[float]]:
        found = synthetic_clips(recipe, 0, accepted, augmentation_factor=2, rounds=1, train=train, keep=keep)
        kept = [clip for clip in found if clip.index < factor]
        return {label: sorted(clip.second_probability or 0 for clip in kept if clip.label == label) for label in "ab"}

    assert taken("unsure", 2) == {"a": [0.2, 0.3, 0.4, 0.6], "b": [0.1, 0.5]}
    assert taken("unsure", 1) == {"a": [0.2, 0.3], "b": [0.1]}
    assert taken("sure", 1) == {"a": [0.7, 0.9], "b": [0.8]}
    assert taken("first", 2) == {"a": [0.2, 0.4, 0.6, 0.9], "b": [0.5, 0.8]}


def test_clips_of_another_dataset_are_refused() -> None:
    check_labels([clip("r", 0, 0, 0)], ["a", "b"])
    with pytest.raises(DataError, match="another one"):
        check_labels([clip("r", 0, 0, 0, label_id=1)], ["a", "b"])
    with pytest.raises(DataError, match="nothing"):
        check_labels([clip("r", 0, 0, 0, label_id=7)], ["a", "b"])


def test_the_twin_of_a_method_has_its_clips_and_another_training_seed() -> None:
    methods = {name: METHODS[name] for name in ("gold", "gold_again")}
    gold, twin = first_phase(methods, (0,), CONFIG, (2,))
    assert gold.replicate == twin.replicate == 0 and gold.training_seed == 0 != twin.training_seed
    assert str(gold) != str(twin)
