"""Pages of a study: `study.html` and `study.md`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.config.learners import find_learner
from common.pages.charts import Line
from common.pages.page import render

TEMPLATE = Path(__file__).parent / "templates" / "study.html.j2"


def page(study: Mapping[str, Any]) -> str:
    """Render study.html from the content of study.json."""
    curves = {}
    for kind, what in (("curves", ""), ("learner_curves", ": learners, on real clips alone")):
        for dataset, found in study[kind].items():
            lines = [_line(study, kind, name, points) for name, points in found.items()]
            if len(_ticks(lines)) > 1:
                curves[f"{dataset} over training clips{what}"] = lines
    filters: dict[str, Callable[..., str]] = {"share": _percent, "signed": _signed, "gain": _gain, "figure": _number}
    return render(TEMPLATE, filters, study=study, sizes=_sizes(study), curves=curves, ticks=_ticks)


def _line(study: Mapping[str, Any], kind: str, name: str, points: Sequence[Mapping[str, Any]]) -> Line:
    title = study["methods"][name] if kind == "curves" else find_learner(name).title
    ends = [[100 * (row["mean"] if row[end] is None else row[end]) for end in ("low", "high")] for row in points]
    intervals = [(low, high) for low, high in ends]
    return Line(title, [row["n"] for row in points], [100 * row["mean"] for row in points], intervals)


def _ticks(lines: Sequence[Line]) -> dict[float, str]:
    return {n: str(n) for n in sorted({n for line in lines for n in line.xs})}


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
