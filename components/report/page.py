"""The page as a function of report.json, page.json and, where it is known, run.json; and the Markdown summary."""

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import escape

from common.config.learners import find_learner, learners_in_order
from common.contracts.base import read
from common.contracts.report import Cost, Report
from common.pages import numbers
from common.pages.page import render
from common.study.comparisons import FIGURES, reliable
from components.report import sections, wording
from components.report.acoustics import STATISTICS
from components.report.results import SOURCES
from components.report.shown import Shown

TEMPLATE = Path(__file__).parent / "templates" / "report.html.j2"


def page_of(folder: Path, run: Mapping[str, Any] | None = None) -> str:
    """Render the HTML page from report.json and page.json in `folder`.

    Args:
        run: content of run.json, for the section of times; None = the run has not ended.

    Raises:
        StorageError: a file is missing.
        DataError: another version of the code wrote it.
    """
    report, shown = read(Report, folder / "report.json"), read(Shown, folder / "page.json")
    return render(
        TEMPLATE,
        {"reason": wording.worded, "refusal": partial(wording.worded, words=wording.REFUSALS)},
        report=report,
        shown=shown,
        plan=shown.plan,
        run=run,
        sections=sections,
        costs=run and cost_rows(report.cost, run["stages"]),
        titled=lambda method: wording.title(method, report),
        reliable=reliable,
        learners=[(name, find_learner(name).title) for name in learners_in_order(report.learners)],
        statistics=STATISTICS,
        sources=SOURCES,
        name=report.dataset.name,
        figure=report.figure,
        measure=FIGURES[report.figure],
        measure_title="mAP" if report.figure == "map" else "Accuracy",
        chosen_by=FIGURES[report.factors.by],
        settings=json.dumps(shown.plan.run_config, indent=2, sort_keys=True, ensure_ascii=False),
        confidence=f"{100 * shown.confidence:g}\u202f%",
    )


def own_seconds(patterns: Sequence[str], stages: Sequence[Mapping[str, Any]]) -> float | None:
    """Total time of the stages that match `patterns`; None if one was cached, because its time is unknown."""
    own = [row for row in stages if any(fnmatchcase(row["name"], pattern) for pattern in patterns)]
    return None if any(row.get("cached") for row in own) else sum(row["seconds"] for row in own)


def cost_rows(costs: Sequence[Cost], stages: Sequence[Mapping[str, Any]]) -> list[tuple[Cost, str, str]]:
    """Each method's own work and its time for each point gained over gold, in words."""
    rows = []
    for row in costs:
        seconds = own_seconds(row.stages, stages)
        if seconds is None:
            work = each = "not known: in the cache"
        else:
            work = numbers.duration(seconds) if row.stages else "none beyond training"
            each = numbers.duration(seconds / (100 * row.mean)) if row.mean > 0 and row.stages else "none"
        rows.append((row, work, each if row.reliable else "not reliable"))
    return rows


def markdown(report: Report) -> str:
    """Format the verdict and the table of methods for a run's page."""
    lines = [f"**{_cell(report.verdict.text)}**", ""]
    lines += [f"| method | {FIGURES[report.figure]} | interval | macro-F1 |", "| --- | --- | --- | --- |"]
    rows = [(row.title, row.told) for row in sections.method_rows(report).values()]
    for title, told in [*rows, (report.zero_shot.title, report.zero_shot)]:
        cells = [_cell(title), numbers.percent(told.score.mean), numbers.between(told.score)]
        lines.append(f"| {' | '.join(cells)} | {numbers.percent(told.macro_f1.mean)} |")
    lines += ["", *(f"- {_cell(caution)}" for caution in report.verdict.cautions)]
    return "\n".join(lines).rstrip() + "\n"


def _cell(text: str) -> str:
    # KFP's panel renders HTML inside Markdown.
    return str(escape(" ".join(text.split()))).replace("|", "\\|")
