"""Pages of a study: `study.html` and `study.md`."""

from collections.abc import Callable, Sequence
from pathlib import Path

from common.config.learners import find_learner
from common.contracts.study import Point, Study, StudyCell, WinRate
from common.pages.charts import Line
from common.pages.page import render

TEMPLATE = Path(__file__).parent / "templates" / "study.html.j2"


def page(study: Study) -> str:
    """Render study.html."""
    learners = {name: find_learner(name).title for found in study.learner_curves.values() for name in found}
    curves = {
        f"{dataset} over training clips{what}": lines
        for found, titles, what in (
            (study.curves, study.methods, ""),
            (study.learner_curves, learners, ": learners, on real clips alone"),
        )
        for dataset, rows in found.items()
        if len(_ticks(lines := [_line(titles[name], points) for name, points in rows.items()])) > 1
    }
    filters: dict[str, Callable[..., str]] = {"share": _percent, "signed": _signed, "gain": _gain, "figure": _number}
    return render(TEMPLATE, filters, study=study, sizes=_sizes(study), curves=curves, ticks=_ticks)


def _line(title: str, points: Sequence[Point]) -> Line:
    intervals = [(100 * point.low, 100 * point.high) for point in points]
    return Line(title, [point.n for point in points], [100 * point.mean for point in points], intervals)


def _ticks(lines: Sequence[Line]) -> dict[float, str]:
    return {n: str(n) for n in sorted({n for line in lines for n in line.xs})}


def markdown(study: Study) -> str:
    """Format study.md: one table per number of training clips in the layout of Table 1, then verdicts and failures."""
    lines = [f"# Study: {len(study.cells)} cells, preset {study.preset}, {study.seeds} replicates", ""]
    for n, cells in _sizes(study).items():
        lines += [f"## n = {n}", "", "| method | " + " | ".join(cell.dataset for cell in cells) + " |"]
        lines += ["|---" * (len(cells) + 1) + "|"]
        for name, title in study.methods.items():
            lines.append(f"| {title} | " + " | ".join(_text(cell, name) for cell in cells) + " |")
        lines.append("")
    lines += ["Measured figures in percent with interval; in brackets the published one and the difference.", ""]
    lines += [f"- {cell.dataset}, n = {cell.n}: {cell.verdict.text}" for cell in study.cells if cell.verdict]
    lines += [f"- failed: {row.dataset}, n = {row.n}, {row.stage or 'cell'}: {row.error}" for row in study.failures]
    return "\n".join(lines) + "\n"


def _sizes(study: Study) -> dict[int, list[StudyCell]]:
    sizes: dict[int, list[StudyCell]] = {}
    for cell in sorted(study.cells, key=lambda cell: cell.n):
        sizes.setdefault(cell.n, []).append(cell)
    return sizes


def _text(cell: StudyCell, name: str) -> str:
    method = cell.methods.get(name)
    if method is None:
        return "failed" if cell.state == "failed" else "-"
    text = f"{_percent(method.score.mean)} ({_percent(method.score.low)} to {_percent(method.score.high)})"
    if method.published is not None and method.difference is not None:
        text += f" [{method.published:.2f}, {_signed(method.difference.mean)}]"
    return text


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _signed(points: float) -> str:
    return f"{points:+.1f}"


def _gain(row: WinRate) -> str:
    text = _signed(100 * row.mean)
    return (
        text
        if row.low is None or row.high is None
        else f"{text} ({_signed(100 * row.low)} to {_signed(100 * row.high)})"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
