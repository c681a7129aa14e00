"""The idea of the stage: `study.json` sets the measured cells beside the published table and tests them together.

A failed cell becomes a named failure and does not hide the others. Read next: page.py (study.html and study.md), run.py
(where the cells' records come from).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.config.methods import ABLATIONS, BASELINE, SUBJECT, Method
from common.storage.local import rounded
from common.study.cells import Cell, Record
from common.study.comparisons import holm, mean_interval, reliable
from common.study.paper import published

FIGURES = ("accuracy", "macro_f1", "map")
LEVEL = 0.05

Row = dict[str, Any]


def study(
    cells: Sequence[tuple[Cell, Record | None]], methods: Mapping[str, Method], asked: Mapping[str, Any]
) -> dict[str, Any]:
    """Build the content of study.json; `pipelines/dags/benchmark.py` describes its layout.

    Args:
        cells: each cell with its record; None = the cell did not finish.
        methods: methods by name, in the order of the report.
        asked: preset, seeds, overrides, estimate and seconds, which are copied.
    """
    rows = [_cell(cell, record, methods) for cell, record in cells]
    complete = all(row["state"] == "done" and not row["failures"] for row in rows)
    content: dict[str, Any] = rounded(
        {
            "schema": 1,
            **asked,
            "methods": {name: method.title for name, method in methods.items()},
            "state": "complete" if complete else "incomplete",
            "cells": rows,
            "correction": correct(rows),
            "win_rates": pooled(rows),
            "ablations": ablations(rows),
            "curves": _curves(rows, "methods"),
            "learner_curves": _curves(rows, "learners"),
            "failures": [
                {"dataset": row["dataset"], "n": row["n"], **failure} for row in rows for failure in row["failures"]
            ],
        }
    )
    return content


def _cell(cell: Cell, record: Record | None, methods: Mapping[str, Method]) -> dict[str, Any]:
    dataset, n = cell.names()
    common = {"dataset": dataset, "n": n}
    if record is None:
        failure = {"error": "the cell did not finish; the run's log names the task, and running it again goes on there"}
        return {
            **common,
            "state": "failed",
            "seconds": None,
            "factors": {},
            "figure": "accuracy",
            "methods": {},
            "learners": {},
            "best": None,
            "differences": [],
            "verdict": None,
            "long_tail": None,
            "cost": [],
            "clip_sets": [],
            "failures": [failure],
        }
    report = record.report
    found = report["methods"]
    figure = report.get("figure", "accuracy")
    return {
        **common,
        "state": "done",
        "seconds": record.seconds,
        "figure": figure,
        "methods": {name: _method(found[name], dataset, n, name, figure) for name in methods if name in found},
        # Each learner on real clips alone, so that curves show what n clips give.
        "learners": {name: own[BASELINE] for name, own in report.get("learners", {}).items() if BASELINE in own},
        "best": report.get("best"),
        "factors": report.get("factors", {}).get("methods", {}),
        "differences": [dict(difference) for difference in report["differences"]],
        "verdict": {key: report["verdict"][key] for key in ("state", "text", "improved", "beats_classic")},
        "long_tail": report.get("long_tail"),
        "cost": report.get("cost", []),
        "clip_sets": clip_sets(report),
        "failures": report["failures"],
    }


def _method(row: Mapping[str, Any], dataset: str, n: int, name: str, figure: str) -> dict[str, Any]:
    value = published(dataset, n, name)
    scores = row[figure]
    difference = None
    if value is not None:
        # The paper gives no interval, so the interval is that of the measured figure.
        difference = {key: 100 * scores[key] - value for key in ("mean", "low", "high") if scores.get(key) is not None}
    kept = {key: row[key] for key in FIGURES if key in row}
    return {"title": row["title"], **kept, "published": value, "difference": difference}


def _curves(rows: Sequence[Mapping[str, Any]], of: str) -> dict[str, dict[str, list[dict[str, Any]]]]:
    curves: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in sorted(rows, key=lambda row: (row["dataset"], row["n"])):
        for name, told in row[of].items():
            scores = told[row["figure"]]
            point = {"n": row["n"], **{key: scores.get(key) for key in ("mean", "low", "high")}}
            curves.setdefault(row["dataset"], {}).setdefault(name, []).append(point)
    return curves


def correct(rows: Sequence[Row]) -> Row:
    """Correct the p values of all cells for the number of comparisons (Holm 1979); adds `p_study` in place.

    Returns comparisons (number with a p value), below (number below `level` after the correction), level.
    """
    tested = [difference for row in rows for difference in row["differences"] if difference.get("p") is not None]
    corrected = holm([difference["p"] for difference in tested])
    for difference, p in zip(tested, corrected, strict=True):
        difference["p_study"] = p
    return {"comparisons": len(tested), "below": sum(p < LEVEL for p in corrected), "level": LEVEL}


def pooled(rows: Sequence[Row]) -> list[Row]:
    """Wins over the cells, and the mean difference over the datasets with its interval.

    The datasets are the sample (Demsar 2006, JMLR 7, section 3). Cells of one dataset share its test clips, so their
    differences are averaged first; Student's t interval is then over the datasets. One dataset alone has no interval.

    Returns rows of method, versus, wins, cells, reliable, worse, datasets, mean, low, high. `reliable` and `worse`
    count the cells with a difference that is reliably above or below 0.
    """
    return [
        {
            "method": method,
            "versus": versus,
            "wins": sum(difference["mean"] > 0 for _, difference in found),
            "cells": len(found),
            "reliable": sum(reliable(difference) > 0 for _, difference in found),
            "worse": sum(reliable(difference) < 0 for _, difference in found),
            "datasets": len({dataset for dataset, _ in found}),
            **_over_datasets(found),
        }
        for (method, versus), found in _pairs(rows).items()
    ]


def ablations(rows: Sequence[Row]) -> list[Row]:
    """Contribution of each part: Synthio minus the method without it.

    Returns one row per cell and part: dataset, n, without, mean, low, high.
    """
    return [
        {"dataset": row["dataset"], "n": row["n"], "without": part, **_interval(difference)}
        for row in rows
        for part in ABLATIONS
        for difference in row["differences"]
        if (difference["method"], difference["versus"]) == (SUBJECT, part)
    ]


def clip_sets(report: Mapping[str, Any]) -> list[Row]:
    """Figures of each synthetic set: the oracle's accuracy, distances to gold, acoustics, caption diversity.

    Returns rows of name, oracle, frechet, kernel, acoustics {figure: value}, distinct_2, self_bleu; None where not
    measured.
    """
    oracle = (report.get("oracle") or {}).get("sets", {})
    distances = (report.get("distances") or {}).get("sets", {})
    acoustics = (report.get("acoustics") or {}).get("sets", {})
    captions = report.get("captions") or {}
    return [
        {
            "name": name,
            "oracle": oracle.get(name, {}).get("accuracy"),
            **{key: distances.get(name, {}).get(key) for key in ("frechet", "kernel")},
            "acoustics": {k: v for k, v in acoustics.get(name, {}).items() if isinstance(v, int | float)},
            **{key: captions.get(name, {}).get(key) for key in ("distinct_2", "self_bleu")},
        }
        for name in sorted({*oracle, *distances, *acoustics})
    ]


def _pairs(rows: Sequence[Row]) -> dict[tuple[str, str], list[tuple[str, Row]]]:
    pairs: dict[tuple[str, str], list[tuple[str, Row]]] = {}
    for row in rows:
        for difference in row["differences"]:
            pairs.setdefault((difference["method"], difference["versus"]), []).append((row["dataset"], difference))
    return pairs


def _over_datasets(found: Sequence[tuple[str, Row]]) -> Row:
    means: dict[str, list[float]] = {}
    for dataset, difference in found:
        means.setdefault(dataset, []).append(difference["mean"])
    return {**mean_interval([float(np.mean(values)) for values in means.values()])}


def _interval(difference: Mapping[str, Any]) -> Row:
    return {key: difference[key] for key in ("mean", "low", "high")}
