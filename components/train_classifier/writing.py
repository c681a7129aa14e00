"""The stage's output folder."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

from components.train_classifier.inputs import ORACLE
from components.train_classifier.jobs import MODEL, read_result
from components.train_classifier.selection import Outcome

_TRIED = ("classic", "strength", "factor", "val_accuracy", "val_map", "val_macro_f1", "val_loss", "best_step")


def write_classifiers(outcome: Outcome, folder: Path) -> dict[str, Any]:
    """Copy the chosen models to `<method>/<seed>/` and the oracle to `oracle/`.

    Returns:
        What was chosen on validation: figures by `<method>/<seed>`, with all strengths and factors under
        `tried`; `select_by`, the figure that decided; `best_classic` by replicate; figures of the oracle.
    """
    selection: dict[str, Any] = {}
    for (method, seed), (item, choice) in sorted(outcome.chosen.items()):
        _copy(item, folder / method / str(seed))
        tried = [{key: result[key] for key in _TRIED if key in result} for result in choice["tried"]]
        selection[f"{method}/{seed}"] = {**read_result(item), "factor": choice["factor"], "tried": tried}
    selection["select_by"] = outcome.select_by
    selection["best_classic"] = {str(seed): best.classic for seed, best in outcome.best_classic.items()}
    if outcome.oracle is not None:
        _copy(outcome.oracle, folder / ORACLE)
        selection[ORACLE] = read_result(outcome.oracle)
    return selection


def mean_scores(selection: dict[str, Any]) -> dict[str, float]:
    """Each method's validation accuracy, or map where clips have several labels: mean over its replicates."""
    found: dict[str, list[float]] = defaultdict(list)
    for name, figures in selection.items():
        if "/" in name:
            figure = "val_accuracy" if "val_accuracy" in figures else "val_map"
            found[f"{figure}_{name.rsplit('/', 1)[0]}"].append(figures[figure])
    return {name: sum(values) / len(values) for name, values in sorted(found.items())}


def _copy(item: Path, target: Path) -> None:
    # A task that is tried again finds its first attempt's files.
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(item / MODEL, target)
