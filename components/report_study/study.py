"""The idea of the stage: `study.json` sets the measured cells beside the published table and tests them together.

A failed cell becomes a named failure and does not hide the others. Read next: figures.py (corrected and pooled
comparisons), page.py (study.html and study.md), run.py (where the cells' records come from).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.config.methods import BASELINE, Method
from common.storage.local import rounded
from common.study.cells import Cell, Record
from common.study.paper import published
from components.report_study.figures import ablations, clip_sets, correct, pooled

FIGURES = ("accuracy", "macro_f1", "map")


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
