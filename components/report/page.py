"""The page as a function of report.json, page.json and, where it is known, run.json; and the Markdown summary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import escape

from common.contracts.base import read
from common.pages import numbers
from common.pages.page import render
from common.storage import read_json
from common.study.comparisons import FIGURES
from components.report import sections, times, wording
from components.report.effects import chosen_by
from components.report.results import SOURCES
from components.report.shown import Shown

TEMPLATE = Path(__file__).parent / "templates" / "report.html.j2"


def page(report: Mapping[str, Any], shown: Shown, run: Mapping[str, Any] | None = None) -> str:
    """Render the HTML page.

    Args:
        shown: content of page.json, with the players.
        run: content of run.json, for the section of times; None = the run has not ended.
    """
    figure = wording.figure_of(report)
    return render(
        TEMPLATE,
        {"reason": wording.reason, "refusal": wording.refusal},
        report=report,
        shown=shown,
        plan=shown.plan,
        run=run,
        sections=sections,
        times=times,
        titled=lambda method: wording.title(method, report),
        sources=SOURCES,
        name=report["dataset"]["name"],
        figure=figure,
        measure=FIGURES[figure],
        measure_title=wording.TITLES[figure],
        chosen_by=FIGURES[chosen_by(report)],
        settings=json.dumps(shown.plan.run_config, indent=2, sort_keys=True, ensure_ascii=False),
        confidence=f"{100 * shown.confidence:g}\u202f%",
    )


def page_of(folder: Path, run: Mapping[str, Any] | None = None) -> str:
    """Render the page from report.json and page.json in `folder`.

    Raises:
        StorageError: a file is missing.
        DataError: another version of the code wrote it.
    """
    return page(read_json(folder / "report.json"), read(Shown, folder / "page.json"), run)


def markdown(report: Mapping[str, Any]) -> str:
    """Format the verdict and the table of methods for a run's page."""
    lines = [f"**{_cell(report['verdict']['text'])}**", ""]
    figure = wording.figure_of(report)
    lines += [f"| method | {FIGURES[figure]} | interval | macro-F1 |", "| --- | --- | --- | --- |"]
    for row in [*sections.method_rows(report)["rows"], *([report["zero_shot"]] if report.get("zero_shot") else [])]:
        score, f1_score = row[figure], row["macro_f1"]
        cells = [_cell(row["title"]), numbers.percent(score["mean"]), numbers.between(score)]
        lines.append(f"| {' | '.join(cells)} | {numbers.percent(f1_score['mean'])} |")
    lines += ["", *(f"- {_cell(caution)}" for caution in report["verdict"]["cautions"])]
    return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    # KFP's panel renders HTML inside Markdown.
    return str(escape(" ".join(text.split()))).replace("|", "\\|")
