"""Trend page: charts of every figure and time over the nights."""

from collections.abc import Sequence
from pathlib import Path

from common.contracts.study import Night
from common.pages.charts import Line
from common.pages.page import render

TEMPLATE = Path(__file__).parent / "templates" / "trend.html.j2"
SHOWN = 60
"""Number of nights in the charts; the table lists the last `LISTED`."""
LISTED = 14


def page(history: str, nights: Sequence[Night]) -> str:
    """Render the trend page of a history, whose nights come oldest first."""
    shown = nights[-SHOWN:]
    figures: dict[str, dict[str, dict[int, float]]] = {}
    times: dict[str, dict[int, float]] = {}
    for index, night in enumerate(shown):
        for figure in night.figures:
            figures.setdefault(figure.cell, {}).setdefault(figure.title, {})[index] = 100 * figure.mean
        for part, seconds in night.seconds.items():
            times.setdefault(part, {})[index] = seconds / 60
    return render(
        TEMPLATE,
        history=history,
        night=nights[-1],
        listed=nights[: -LISTED - 1 : -1],
        figures={cell: _lines(found) for cell, found in figures.items()},
        times=_lines(times),
        ticks={0: shown[0].at[:10], len(shown) - 1: shown[-1].at[:10]},
        bad=[index for index, night in enumerate(shown) if night.state != "good"],
    )


def _lines(found: dict[str, dict[int, float]]) -> list[Line]:
    return [Line(name, list(values), list(values.values())) for name, values in found.items()]
