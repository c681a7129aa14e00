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

from common.storage import read_json, write_json, write_text
from components.report.page import page_of
from components.report.times import own_seconds
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
    if study["failures"]:
        observer.evict(UNFINISHED)
    for failure in study["failures"]:
        print(f"failed: {json.dumps(failure)}", file=sys.stderr)
    for cell in study["cells"]:
        text = cell["verdict"]["text"] if cell["verdict"] else "did not finish"
        print(f"{cell['dataset']}, n = {cell['n']}: {text}")
    print(f"report: {folder / 'study.html'}")
    return 0 if run["state"] == "succeeded" and study["state"] == "complete" else 1


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


def with_run(study: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """Add to study.json what only the runner knows: times by stage, machine, cost, and each cell's failed stage."""
    price, hours = study["estimate"]["price_per_hour"], run["wall_seconds"] / 3600
    cells = []
    for index, cell in enumerate(study["cells"]):
        own = rows_of_cell(run["stages"], index)
        stages: dict[str, float] = {}
        for row in own:
            name = row["name"].rstrip("-0123456789")
            stages[name] = round(stages.get(name, 0.0) + row["seconds"], 2)
        per_point = {
            gain["name"]: seconds / (100 * gain["mean"])
            for gain in cell["cost"]
            if gain["reliable"] and (seconds := own_seconds(gain["stages"], own))
        }
        failed = [
            {"stage": row["name"].rstrip("-0123456789"), "error": row.get("error") or "see the run's log"}
            for row in own
            if row["state"] == "failed"
        ]
        cell = {**cell, "stages": stages, "machine": run["machine"]}
        if cell["state"] == "failed" and failed:
            cell["failures"] = failed
        cells.append({**cell, "seconds_per_point": per_point})
    failures = [{"dataset": row["dataset"], "n": row["n"], **item} for row in cells for item in row["failures"]]
    real = {
        "hours": round(hours, 4),
        "money": round(hours * price, 4),
        "machine": run["machine"],
        "tasks": len(run["stages"]),
        "reused": sum(row["cached"] for row in run["stages"]),
    }
    return {**study, "cells": cells, "failures": failures, "real": real}


def publish(artifacts: dict[str, dict[str, str]], folder: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Copy the study's report and the reports of finished cells to `folder`; return the content of study.json."""
    source = Path(artifacts["report-study"]["study"])
    study = with_run(read_json(source / "study.json"), run)
    write_json(folder / "study.json", study)
    write_text(folder / "study.html", page(study))
    write_text(folder / "study.md", markdown(study))
    if "record-night" in artifacts:
        shutil.copyfile(Path(artifacts["record-night"]["night"]) / "trend.html", folder / "trend.html")
    for row in run["stages"]:
        results = artifacts.get(row["name"], {}).get("results")
        if results:
            dataset, own = read_json(Path(results) / "report.json")["dataset"], rows_of_cell(run["stages"], row["cell"])
            place = folder / "cells" / f"{dataset['name']}-{dataset['n']}"
            shutil.copytree(results, place)
            known = {"stages": own, "wall_seconds": sum(each["seconds"] for each in own), "machine": run["machine"]}
            write_text(place / "report.html", page_of(place, known))
    return study
