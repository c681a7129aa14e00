"""Pages of a study: `study.html` and `study.md`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.config.learners import find_learner
from common.pages.page import page_environment

TEMPLATES = Path(__file__).parent / "templates"
WIDTH, HEIGHT, MARGIN = 340.0, 200.0, 30.0
COLOURS = ("#1b6ca8", "#c2571a", "#2e7d4f", "#8a3ea0", "#a8324a", "#5b6770", "#8c7a12", "#157f86")


def render(study: Mapping[str, Any]) -> str:
    """Render study.html as self-contained HTML with every value escaped."""
    filters: dict[str, Callable[..., str]] = {"percent": _percent, "signed": _signed, "gain": _gain, "number": _number}
    learners = {name for curves in study["learner_curves"].values() for name in curves}
    titles = {"curves": study["methods"], "learner_curves": {name: find_learner(name).title for name in learners}}
    charts = [
        {"title": f"{dataset} over training clips{what}", "titles": titles[kind], **chart(curves)}
        for kind, what in (("curves", ""), ("learner_curves", ": learners, on real clips alone"))
        for dataset, curves in study[kind].items()
        if len(_numbers(curves)) > 1
    ]
    template = page_environment(TEMPLATES, filters).get_template("study.html.j2")
    return template.render(study=study, sizes=_sizes(study), charts=charts)


def markdown(study: Mapping[str, Any]) -> str:
    """Format study.md: one table per number of training clips in the layout of Table 1, then verdicts and failures."""
    lines = [f"# Study: {len(study['cells'])} cells, preset {study['preset']}, {study['seeds']} replicates", ""]
    for n, cells in _sizes(study).items():
        lines += [f"## n = {n}", "", "| method | " + " | ".join(cell["dataset"] for cell in cells) + " |"]
        lines += ["|---" * (len(cells) + 1) + "|"]
        for name, title in study["methods"].items():
            lines.append(f"| {title} | " + " | ".join(_text(cell, name) for cell in cells) + " |")
        lines.append("")
    lines += ["Measured figures in percent with interval; in brackets the published one and the difference.", ""]
    for cell in study["cells"]:
        if cell["verdict"]:
            lines.append(f"- {cell['dataset']}, n = {cell['n']}: {cell['verdict']['text']}")
    for failure in study["failures"]:
        place = f"{failure['dataset']}, n = {failure['n']}, {failure.get('stage', 'cell')}"
        lines.append(f"- failed: {place}: {failure.get('error', failure)}")
    return "\n".join(lines) + "\n"


def chart(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Lay out the learning curves over n (logarithmic) as SVG points.

    Returns:
        lines (per method: name, colour, line "x,y x,y", points [{x, y, y_low, y_high, n, mean}]), low and high (values
        at the ends of the axis), sizes [{n, x}].
    """
    sizes = _numbers(curves)
    values = [point[key] for points in curves.values() for point in points for key in ("mean", "low", "high")]
    known = [value for value in values if value is not None]
    left, right = math.log(max(1, sizes[0])), math.log(max(1, sizes[-1]))
    low, high = min(known), max(known)

    def x(n: int) -> float:
        share = (math.log(max(1, n)) - left) / (right - left) if right > left else 0.5
        return round(MARGIN + share * (WIDTH - 2 * MARGIN), 1)

    def y(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.5
        return round(HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN), 1)

    rows = []
    for number, (name, points) in enumerate(curves.items()):
        placed = [
            {
                "x": x(point["n"]),
                "y": y(point["mean"]),
                "y_low": y(point["mean"] if point["low"] is None else point["low"]),
                "y_high": y(point["mean"] if point["high"] is None else point["high"]),
                "n": point["n"],
                "mean": point["mean"],
            }
            for point in points
        ]
        line = " ".join(f"{point['x']},{point['y']}" for point in placed)
        rows.append({"name": name, "colour": COLOURS[number % len(COLOURS)], "line": line, "points": placed})
    return {"lines": rows, "low": low, "high": high, "sizes": [{"n": n, "x": x(n)} for n in sizes]}


def _numbers(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[int]:
    return sorted({point["n"] for points in curves.values() for point in points})


def _sizes(study: Mapping[str, Any]) -> dict[int, list[Mapping[str, Any]]]:
    sizes: dict[int, list[Mapping[str, Any]]] = {}
    for cell in sorted(study["cells"], key=lambda cell: cell["n"]):
        sizes.setdefault(cell["n"], []).append(cell)
    return sizes


def _text(cell: Mapping[str, Any], name: str) -> str:
    method = cell["methods"].get(name)
    if method is None:
        return "failed" if cell["state"] == "failed" else "-"
    scores = method[cell["figure"]]
    text = f"{_percent(scores['mean'])} ({_percent(scores.get('low'))} to {_percent(scores.get('high'))})"
    if method["published"] is not None:
        text += f" [{method['published']:.2f}, {_signed(method['difference']['mean'])}]"
    return text


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _signed(points: float) -> str:
    return f"{points:+.1f}"


def _gain(row: Mapping[str, Any]) -> str:
    text = _signed(100 * row["mean"])
    return text if row["low"] is None else f"{text} ({_signed(100 * row['low'])} to {_signed(100 * row['high'])})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
