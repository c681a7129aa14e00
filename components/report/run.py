"""Reads the figures and clips of all stages, computes the results, writes `report.json`, `page.json` and the pages."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.config.evaluation import ReportPlan
from common.config.run import RunConfig
from common.contracts.base import read, write
from common.contracts.report import Report
from common.runtime.stage import Figures, stage
from common.storage import write_text
from components.report.inputs import Inputs
from components.report.page import markdown, page_of
from components.report.results import results
from components.report.shown import shown


def run(
    artifacts: Mapping[str, str],
    results_path: str,
    html_path: str,
    markdown_path: str,
    confusion_path: str,
    metrics_path: str,
    *,
    config: dict[str, Any],
) -> tuple[Figures, list[str], list[list[int]] | None]:
    """Write the report.

    Args:
        artifacts: folders of the inputs, by the names in `component.py`, which describes the other arguments.

    Returns:
        The run's figures, the labels, and the confusion matrix (rows = truth) of the delivered classifier, None where
        clips have several labels.
    """
    plan = ReportPlan.model_validate(config)
    # With the defaults too.
    whole = RunConfig.model_validate(plan.run_config).model_dump(mode="json", exclude={"scope"})
    plan = plan.model_copy(update={"run_config": whole})
    with stage("report", config, metrics_path, {"results": results_path}, artifacts) as running:
        inputs = Inputs({name: Path(folder) for name, folder in artifacts.items()})
        found = results(inputs, plan)
        extra = shown(inputs, plan, found)
        out = Path(results_path)
        write(out / "report.json", found)
        write(out / "page.json", extra)
        # From the files, as `make report` draws it again.
        page = page_of(out)
        write_text(out / "report.html", page)
        write_text(Path(html_path), page)
        write_text(Path(markdown_path), markdown(read(Report, out / "report.json")))
        labels, matrix = inputs.evaluation.labels, inputs.evaluation.delivered.confusion
        write_text(Path(confusion_path), json.dumps({"labels": labels, "matrix": matrix}, ensure_ascii=False))
        running.record({f"{found.figure}_{name}": row.score.mean for name, row in found.methods.items()})
        running.record({"verdict": found.verdict.state, "players": len(extra.cards)})
    return running.figures, labels, matrix
