"""Choices that were made on validation, and the model that is handed on because of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import DataError
from common.methods import Method


def best_classic_methods(selection: Mapping[str, Any], methods: Mapping[str, Method]) -> dict[int, str]:
    """Seed to the method of this run that is the classic augmentation which validation chose there.

    Args:
        selection: the content of selection.json.
        methods: this run's; a classic that is none of them is left out.
    """
    alone = {method.classic: name for name, method in methods.items() if method.recipe is None}
    chosen = selection.get("best_classic", {})
    return {int(seed): alone[classic] for seed, classic in sorted(chosen.items()) if classic in alone}


def selected_by(selection: Mapping[str, Any]) -> str:
    """The validation figure by which train_classifier chose: `accuracy`, `macro_f1` or `map`."""
    return str(selection.get("select_by", "accuracy"))


def choose(selection: Mapping[str, Any], methods: Sequence[str], seeds: Sequence[int]) -> tuple[str, int, float]:
    """The method with the best mean figure on validation, its best replicate, and that model's figure.

    The figure is the one by which train_classifier chose. Replicates have validation clips of their own, so the
    largest figure of all would mostly tell whose were easiest. Of equal ones the lower validation loss decides, then
    the order of the list. Figures of the test split are no argument of this function.

    Args:
        selection: the content of selection.json.
        methods: in order of preference among equals.
        seeds: likewise.

    Raises:
        DataError: nothing was trained.
    """
    figure = f"val_{selected_by(selection)}"
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for method in methods:
        for seed in seeds:
            if figures := selection.get(f"{method}/{seed}"):
                order = (float(figures[figure]), -float(figures.get("val_loss", 0.0)))
                found.setdefault(method, {})[seed] = order
    if not found:
        raise DataError(
            "no trained classifier to choose from: selection.json lists none of this run's methods and replicates; "
            "see failures.json of train_classifier"
        )
    means = {m: tuple(sum(part) / len(part) for part in zip(*own.values(), strict=True)) for m, own in found.items()}
    best = max(means, key=lambda method: means[method])
    seed = max(found[best], key=lambda seed: found[best][seed])
    return best, seed, found[best][seed][0]
