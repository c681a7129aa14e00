"""The idea of the stage: one record per night, with figures, times and findings, in a history of all nights.

Nights that ran the same study are comparable, so a regression shows as a figure that fell or a time that grew. Read
next: common/study/nights.py (the record and the history), comparison.py (what counts as worse), page.py (the trend
page), run.py (the order of the steps).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.study.nights import Figure


def figures_of(study: Mapping[str, Any]) -> tuple[Figure, ...]:
    """Headline figures of study.json; `pipelines/dags/benchmark.py` describes its layout."""
    return tuple(
        Figure(
            cell=cell_name(cell),
            method=name,
            title=method["title"],
            figure=cell["figure"],
            **{key: method[cell["figure"]][key] for key in ("mean", "low", "high")},
        )
        for cell in study["cells"]
        for name, method in cell["methods"].items()
    )


def seconds_of(study: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of the whole study, and of each finished cell since the previous one finished."""
    finished = sorted((cell["seconds"], cell_name(cell)) for cell in study["cells"] if cell["seconds"] is not None)
    before = [0.0, *(seconds for seconds, _ in finished)]
    cells = {name: seconds - last for (seconds, name), last in zip(finished, before, strict=False)}
    return {"whole study": study["seconds"], **cells}


def cell_name(cell: Mapping[str, Any]) -> str:
    """Display name of a cell, for example `esc50, n = 100`."""
    return f"{cell['dataset']}, n = {cell['n']}"
