"""Choices that were made on validation, and the model that is handed on because of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import DataError
from common.methods import METHODS, Method


def listed(names: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """Method names in the order of the catalogue; KFP does not keep the order of a dict."""
    catalogue = list(METHODS)
    return sorted(names, key=lambda name: (catalogue.index(name) if name in METHODS else len(catalogue), name))


def best_classic_methods(selection: Mapping[str, Any], methods: Mapping[str, Method]) -> dict[int, str]:
    """Seed to the method of this run that is the classic augmentation which validation chose there.

    Args:
        selection: the content of selection.json.
        methods: this run's; a classic that is none of them is left out.
    """
    alone = {method.classic: name for name, method in methods.items() if method.recipe is None}
    chosen = selection.get("best_classic", {})
    return {int(seed): alone[classic] for seed, classic in sorted(chosen.items()) if classic in alone}


def choose(selection: Mapping[str, Any], methods: Sequence[str], seeds: Sequence[int]) -> tuple[str, int, float]:
    """The method and replicate with the best validation accuracy, and that accuracy.

    Of equal ones the lower validation loss decides, then the order of the list. Figures of the test
    split are no argument of this function.

    Args:
        selection: the content of selection.json.
        methods: in order of preference among equals.
        seeds: likewise.

    Raises:
        DataError: nothing was trained.
    """
    found = [(m, s, selection[f"{m}/{s}"]) for m in methods for s in seeds if f"{m}/{s}" in selection]
    if not found:
        raise DataError(
            "no trained classifier to choose from: selection.json lists none of this run's methods and replicates; "
            "see failures.json of train_classifier"
        )
    method, seed, figures = max(found, key=lambda entry: (entry[2]["val_accuracy"], -entry[2].get("val_loss", 0.0)))
    return method, seed, float(figures["val_accuracy"])
