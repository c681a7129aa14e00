"""Local run of a study, one cell after another, and publication of its results."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic_core import to_jsonable_python

from common.contracts.base import read, write
from common.contracts.report import Report
from common.contracts.study import PartFailure, Real, Study, StudyCell
from common.storage import write_text
from components.report.page import own_seconds, page_of
from components.report_study.page import markdown, page
from pipelines.dags.compile import compile_pipeline
from pipelines.local.run import UNFINISHED, execute, new_folder, prepare_local
from pipelines.sources import ROOT


def run_study(
    arguments: dict[str, Any], runs: Path, runner: str = "subprocess", store: str = "", fresh: bool = False
) -> int:
    """Run the compiled benchmark pipeline on this machine and publish the study below `runs`.

    `run_local` describes the arguments.

    Returns exit status: 0 = every cell succeeded, 1 = something failed.
    """
    folder = new_folder(runs, f"study-{arguments['preset']}")
    compiled = compile_pipeline(ROOT / "build" / "benchmark.yaml", pipeline="benchmark")
    specs = [yaml.safe_load(cell["dataset"]) for cell in json.loads(arguments["cells"])]
    places = prepare_local(runs, runner, store, fresh, specs)
    print(f"running a study of {len(specs)} cells; full log: {folder / 'log.txt'}", flush=True)
    run, _, observer = execute(compiled, arguments, folder, places)
    if "report-study" not in observer.artifacts or not observer.artifacts["report-study"]:
        return 1
    study = publish(observer.artifacts, folder, run)
    if study.failures:
        observer.evict(UNFINISHED)
    for failure in study.failures:
        print(f"failed: {json.dumps(to_jsonable_python(failure))}", file=sys.stderr)
    for cell in study.cells:
        print(f"{cell.dataset}, n = {cell.n}: {cell.verdict.text if cell.verdict else 'did not finish'}")
    print(f"report: {folder / 'study.html'}")
    return 0 if run["state"] == "succeeded" and study.state == "complete" else 1


def rows_of_cell(stages: Sequence[Mapping[str, Any]], index: int) -> list[dict[str, Any]]:
    """Rows of one cell's tasks, named as in a run of that cell alone: `synthesize-audio`, `synthesize-audio-2`, …"""
    count: Counter[str] = Counter()
    rows = []
    for row in stages:
        if row.get("cell") == index:
            name = row["name"].rstrip("-0123456789")
            count[name] += 1
            rows.append({**row, "name": name if count[name] == 1 else f"{name}-{count[name]}"})
    return rows


def with_run(study: Study, run: dict[str, Any]) -> Study:
    """Add to study.json what only the runner knows: times by stage, machine, cost, and each cell's failed stage."""
    hours = run["wall_seconds"] / 3600
    cells = [_with_stages(cell, rows_of_cell(run["stages"], i), run["machine"]) for i, cell in enumerate(study.cells)]
    real = Real(
        hours=round(hours, 4),
        money=round(hours * study.estimate.price_per_hour, 4),
        machine=run["machine"],
        tasks=len(run["stages"]),
        reused=sum(row["cached"] for row in run["stages"]),
    )
    failures = [each.model_copy(update={"dataset": row.dataset, "n": row.n}) for row in cells for each in row.failures]
    return study.model_copy(update={"cells": cells, "failures": failures, "real": real})


def _with_stages(cell: StudyCell, own: Sequence[Mapping[str, Any]], machine: dict[str, Any]) -> StudyCell:
    stages: dict[str, float] = {}
    failed = []
    for row in own:
        name = row["name"].rstrip("-0123456789")
        stages[name] = round(stages.get(name, 0.0) + row["seconds"], 2)
        if row["state"] == "failed":
            failed.append(PartFailure(stage=name, error=row.get("error") or "see the run's log"))
    per_point = {
        gain.name: seconds / (100 * gain.mean)
        for gain in cell.cost
        if gain.reliable and (seconds := own_seconds(gain.stages, own))
    }
    told: dict[str, object] = {"stages": stages, "machine": machine, "seconds_per_point": per_point}
    if cell.state == "failed" and failed:
        told["failures"] = failed
    return cell.model_copy(update=told)


def publish(artifacts: dict[str, dict[str, str]], folder: Path, run: dict[str, Any]) -> Study:
    """Copy the study's report and the reports of finished cells to `folder`; return the content of study.json."""
    source = Path(artifacts["report-study"]["study"])
    study = with_run(read(Study, source / "study.json"), run)
    write(folder / "study.json", study)
    write_text(folder / "study.html", page(study))
    write_text(folder / "study.md", markdown(study))
    if "record-night" in artifacts:
        shutil.copyfile(Path(artifacts["record-night"]["night"]) / "trend.html", folder / "trend.html")
    for row in run["stages"]:
        results = artifacts.get(row["name"], {}).get("results")
        if results:
            dataset, own = read(Report, Path(results) / "report.json").dataset, rows_of_cell(run["stages"], row["cell"])
            place = folder / "cells" / f"{dataset.name}-{dataset.n}"
            shutil.copytree(results, place)
            known = {"stages": own, "wall_seconds": sum(each["seconds"] for each in own), "machine": run["machine"]}
            write_text(place / "report.html", page_of(place, known))
    return study
