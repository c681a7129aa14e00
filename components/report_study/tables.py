"""`study.json`: the measured cells beside the published table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.methods import Method
from common.rounding import rounded
from common.study.cells import Cell
from common.study.paper import published

FIGURES = ("accuracy", "macro_f1", "map")


def study(
    cells: Sequence[tuple[Cell, Mapping[str, Any] | None]], methods: Mapping[str, Method], asked: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of study.json, whose layout `pipelines/benchmark.py` states.

    Args:
        cells: each with the content of its report.json; None = it did not finish.
        methods: by name, in the order of the report.
        asked: preset, seeds and estimate.
    """
    rows = [_cell(cell, report, methods) for cell, report in cells]
    complete = all(row["state"] == "done" and not row["failures"] for row in rows)
    content: dict[str, Any] = rounded(
        {
            "schema": 1,
            **asked,
            "methods": {name: method.title for name, method in methods.items()},
            "state": "complete" if complete else "incomplete",
            "cells": rows,
            "win_rates": _win_rates(rows),
            "curves": _curves(rows),
            "failures": [
                {"dataset": row["dataset"], "n": row["n"], **failure} for row in rows for failure in row["failures"]
            ],
        }
    )
    return content


def _cell(cell: Cell, report: Mapping[str, Any] | None, methods: Mapping[str, Method]) -> dict[str, Any]:
    dataset, n = cell.names()
    common = {"dataset": dataset, "n": n}
    if report is None:
        failure = {"error": "the cell did not finish; the run's log names the task, and running it again goes on there"}
        return {
            **common,
            "state": "failed",
            "figure": "accuracy",
            "methods": {},
            "differences": [],
            "verdict": None,
            "failures": [failure],
        }
    found = report["methods"]
    figure = "accuracy" if all("accuracy" in row for row in found.values()) else "map"
    return {
        **common,
        "state": "done",
        "figure": figure,
        "methods": {name: _method(found[name], dataset, n, name, figure) for name in methods if name in found},
        "differences": report["differences"],
        "verdict": {key: report["verdict"][key] for key in ("state", "text", "improved", "beats_classic")},
        "failures": report["failures"],
    }


def _method(row: Mapping[str, Any], dataset: str, n: int, name: str, figure: str) -> dict[str, Any]:
    value = published(dataset, n, name)
    scores = row[figure]
    difference = None
    if value is not None:
        # The paper gives no interval, so this is the one of the measured figure.
        difference = {key: 100 * scores[key] - value for key in ("mean", "low", "high") if scores.get(key) is not None}
    kept = {key: row[key] for key in FIGURES if key in row}
    return {"title": row["title"], **kept, "published": value, "difference": difference}


def _win_rates(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    pairs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        for difference in row["differences"]:
            pairs.setdefault((difference["method"], difference["versus"]), []).append(difference)
    return [
        {
            "method": method,
            "versus": versus,
            "wins": sum(difference["mean"] > 0 for difference in found),
            "cells": len(found),
            "reliable": sum(difference["low"] > 0 and len(difference["per_seed"]) > 1 for difference in found),
            "worse": sum(difference["high"] < 0 and len(difference["per_seed"]) > 1 for difference in found),
        }
        for (method, versus), found in pairs.items()
    ]


def _curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    curves: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in sorted(rows, key=lambda row: (row["dataset"], row["n"])):
        for name, method in row["methods"].items():
            scores = method[row["figure"]]
            point = {"n": row["n"], **{key: scores.get(key) for key in ("mean", "low", "high")}}
            curves.setdefault(row["dataset"], {}).setdefault(name, []).append(point)
    return curves
