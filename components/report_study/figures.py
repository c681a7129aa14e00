"""Figures over all cells of a study: corrected comparisons, pooled differences, ablations, sets of clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.config.methods import ABLATIONS, SUBJECT
from common.study.comparisons import holm, mean_interval, reliable

LEVEL = 0.05

Row = dict[str, Any]


def correct(rows: Sequence[Row]) -> Row:
    """Correct the p values of all cells for the number of comparisons (Holm 1979); adds `p_study` in place.

    Returns:
        comparisons (number with a p value), below (number below `level` after the correction), level.
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

    Returns:
        Rows of method, versus, wins, cells, reliable, worse, datasets, mean, low, high. `reliable` and `worse` count
        the cells with a difference that is reliably above or below 0.
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

    Returns:
        One row per cell and part: dataset, n, without, mean, low, high.
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

    Returns:
        Rows of name, oracle, frechet, kernel, acoustics {figure: value}, distinct_2, self_bleu; None where not
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
