"""Trend page: charts of every figure and time over the nights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.pages.page import page_environment
from common.study.nights import Night

TEMPLATES = Path(__file__).parent / "templates"
SHOWN = 60
"""Number of nights in the charts; the table lists the last `LISTED`."""
LISTED = 14
LEFT, RIGHT, LOW, HIGH = 44.0, 332.0, 156.0, 10.0
STYLES = (
    ("#1b6ca8", ""),
    ("#c2571a", "6 3"),
    ("#2e7d4f", "2 2"),
    ("#8a3ea0", "8 3 2 3"),
    ("#a8324a", "1 3"),
    ("#5b6770", "4 4"),
)


def render(history: str, nights: Sequence[Night]) -> str:
    """Render the trend page as self-contained HTML with every value escaped.

    Args:
        history: name of the history.
        nights: oldest first; at least one.
    """
    shown = nights[-SHOWN:]
    cells = list(dict.fromkeys(figure.cell for night in shown for figure in night.figures))
    charts = {cell: _chart(_figures(shown, cell), len(shown), 100.0, "%") for cell in cells}
    parts = list(dict.fromkeys(part for night in shown for part in night.seconds))
    times = {
        part: [(i, night.seconds[part]) for i, night in enumerate(shown) if part in night.seconds] for part in parts
    }
    return (
        page_environment(TEMPLATES)
        .get_template("trend.html.j2")
        .render(
            history=history,
            night=nights[-1],
            listed=list(reversed(nights[-LISTED:])),
            charts=charts,
            times=_chart(times, len(shown), 1 / 60, "min", from_zero=True),
            first=shown[0].at[:10],
            last=shown[-1].at[:10],
            bad=[round(_x(i, len(shown)), 1) for i, night in enumerate(shown) if night.state != "good"],
        )
    )


def _figures(nights: Sequence[Night], cell: str) -> dict[str, list[tuple[int, float]]]:
    lines: dict[str, list[tuple[int, float]]] = {}
    for index, night in enumerate(nights):
        for figure in night.figures:
            if figure.cell == cell:
                lines.setdefault(figure.title, []).append((index, figure.mean))
    return lines


def _chart(
    lines: dict[str, list[tuple[int, float]]], nights: int, factor: float, unit: str, from_zero: bool = False
) -> dict[str, Any]:
    """Lay out lines over the nights as SVG points, with the axis ends and a description of each line in words."""
    values = [factor * value for points in lines.values() for _, value in points]
    low, high = 0.0 if from_zero else min(values), max(values)

    def y(value: float) -> float:
        share = (factor * value - low) / (high - low) if high > low else 0.5
        return round(LOW + share * (HIGH - LOW), 1)

    rows = []
    for number, (name, points) in enumerate(lines.items()):
        colour, dash = STYLES[number % len(STYLES)]
        line = " ".join(f"{_x(index, nights):.1f},{y(value)}" for index, value in points)
        first, last = (f"{factor * points[place][1]:.1f}" for place in (0, -1))
        x, end = _x(points[-1][0], nights), y(points[-1][1])
        words = f"{first} to {last} {unit}" if len(points) > 1 else f"{last} {unit}"
        rows.append({"name": name, "colour": colour, "dash": dash, "line": line, "x": x, "y": end, "words": words})
    return {"rows": rows, "low": f"{low:.1f} {unit}", "high": f"{high:.1f} {unit}"}


def _x(index: int, nights: int) -> float:
    share = index / (nights - 1) if nights > 1 else 0.5
    return LEFT + share * (RIGHT - LEFT)
