"""HTML page and Markdown summary of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from common.pages import numbers
from common.pages.page import page_environment
from common.study.comparisons import FIGURES
from components.report import wording

TEMPLATES = Path(__file__).parent / "templates"


def render(context: Mapping[str, Any]) -> str:
    """Render the HTML page; every value is escaped except the charts, which this package draws itself.

    Args:
        context: variables of `templates/report.html.j2`.
    """
    filters = {
        "percent": _narrow(numbers.percent),
        "points": numbers.points,
        "number": numbers.number,
        "decimals": numbers.decimals,
        "reason": wording.reason,
        "refusal": wording.refusal,
        "fixed": partial(numbers.decimals, places=2),
        "between": numbers.between,
        "narrow": _narrow(str),
    }
    style = Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))
    return page_environment(TEMPLATES, filters).get_template("report.html.j2").render(style=style, **context)


def _narrow(format_value: Any) -> Any:
    # A narrow no-break space keeps a number and its percent sign together.
    def filtered(value: Any) -> str:
        return str(format_value(value)).replace(" %", "\u202f%")

    return filtered


def code(name: str) -> Markup:
    """Mark up `name` as code and escape it."""
    return Markup("<code>{}</code>").format(name)


def markdown(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Format the verdict and the table of methods for a run's page.

    Args:
        results: content of report.json.
        rows: rows of the table of methods.
    """
    lines = [f"**{_cell(results['verdict']['text'])}**", ""]
    figure = wording.figure_of(results)
    lines += [f"| method | {FIGURES[figure]} | interval | macro-F1 |", "| --- | --- | --- | --- |"]
    for row in [*rows, *([results["zero_shot"]] if results.get("zero_shot") else [])]:
        score, f1_score = row[figure], row["macro_f1"]
        cells = [_cell(row["title"]), numbers.percent(score["mean"]), numbers.between(score)]
        lines.append(f"| {' | '.join(cells)} | {numbers.percent(f1_score['mean'])} |")
    lines += ["", *(f"- {_cell(caution)}" for caution in results["verdict"]["cautions"])]
    return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    # KFP's panel renders HTML inside Markdown.
    return str(escape(" ".join(text.split()))).replace("|", "\\|")
