from __future__ import annotations

from pathlib import Path

import pytest

from common.config.learners import LEARNERS
from common.config.methods import DEFAULT_METHODS, METHODS, resolve_methods
from common.config.recipes import LOSERS, Recipe
from common.errors import ConfigError
from common.records.text import normalize_label, template_caption
from common.runtime.seeding import derive_seed, numpy_generator


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean synthio"):
        resolve_methods("sinthio")


def test_default_methods_exist_and_vanilla_is_the_losers() -> None:
    assert set(DEFAULT_METHODS) <= set(METHODS)
    assert METHODS["vanilla"].recipe == LOSERS


def test_recipes_with_different_settings_have_different_names() -> None:
    recipes = {method.recipe.model_copy(update={"rounds": None}) for method in METHODS.values() if method.recipe}
    assert len({recipe.name for recipe in recipes}) == len(recipes)
    assert Recipe().name == "none-template-all"


def test_sub_seeds_depend_on_names_and_seed_only() -> None:
    assert derive_seed(1, "a", 2) == derive_seed(1, "a", 2)
    assert len({derive_seed(1, "a"), derive_seed(2, "a"), derive_seed(1, "b"), derive_seed(1, "a", "b")}) == 4
    assert 0 <= derive_seed(1, "a") < 2**31
    assert numpy_generator(1, "a").random() == numpy_generator(1, "a").random()


def test_label_text_is_normalised_in_one_way() -> None:
    assert normalize_label(" Dog_Bark ") == "dog bark"
    assert normalize_label("Schlüssel/Tür\n") == "schlüssel tür"
    assert template_caption("bus") == "sound of a bus"


@pytest.mark.parametrize("names", [METHODS, LEARNERS], ids=["methods", "learners"])
def test_the_readme_names_every_one(names: dict[str, object]) -> None:
    text = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in text] == []


def test_each_method_stands_on_one_side_of_the_comparison_and_ceilings_on_none() -> None:
    sides = {name: method.side for name, method in METHODS.items()}
    assert sides["extra_real"] is None
    assert {name for name, side in sides.items() if side == "control"} == {"retrieval", "corpus_label"}
    assert {sides[name] for name in ("vanilla", "synthio", "synthio_corpus", "synthio_classic")} == {"with"}
    assert {sides[name] for name in ("gold", "noise", "specaugment", "background_noise")} == {"without"}
