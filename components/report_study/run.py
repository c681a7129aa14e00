"""Reads the cells' records from the run store, combines them, writes the study's report."""

from pathlib import Path

from common.config.methods import resolve_methods
from common.config.run import load_preset
from common.contracts.base import write
from common.runtime.stage import Figures, stage
from common.storage import write_text
from common.study.cells import Records, parse_cells
from common.study.costs import estimate
from components.report_study.page import markdown, page
from components.report_study.study import study


def run(
    cells: str,
    preset: str,
    methods: str,
    replicates: int,
    overrides: str,
    run_id: str,
    study_path: str,
    html_path: str,
    markdown_path: str,
    metrics_path: str,
) -> Figures:
    """Write the study's report; `component.py` describes the arguments.

    Raises:
        ConfigError: a preset, dataset or method is unknown.
        StorageError: the store cannot be read.
    """
    asked = {"preset": preset, "seeds": replicates, "overrides": overrides}
    config = {"cells": cells, "methods": methods, **asked}
    with stage("report_study", config, metrics_path, {"study": study_path}) as running:
        listed, settings = parse_cells(cells), load_preset(preset, overrides)
        chosen = resolve_methods(methods, settings.methods)
        records = Records(run_id)
        clips, clip_s = [cell.names()[1] for cell in listed], [cell.clip_s() for cell in listed]
        cost = estimate(clips, preset, chosen, replicates, clip_s=clip_s, config=settings)
        measured = [(cell, records.read(cell)) for cell in listed]
        content = study(measured, chosen, {**asked, "estimate": cost, "seconds": records.seconds()})
        html, text = page(content), markdown(content)
        write(Path(study_path) / "study.json", content)
        write_text(Path(study_path) / "study.html", html)
        write_text(Path(study_path) / "study.md", text)
        write_text(Path(html_path), html)
        write_text(Path(markdown_path), text)
        records.finish(content.state)
        done = sum(row.state == "done" for row in content.cells)
        running.record({"cells": len(listed), "done": done, "failures": len(content.failures)})
    return running.figures
