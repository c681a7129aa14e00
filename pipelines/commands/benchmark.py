"""Run a study of several datasets and sizes on this machine, or with KFP_HOST on a cluster (`make benchmark`).

With `--dry-run` it only prints the estimated cost.
"""

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic_core import to_jsonable_python

from common.config.methods import resolve_methods
from common.config.run import load_preset
from common.contracts.base import read, write
from common.contracts.report import Report
from common.contracts.study import Estimate, PartFailure, Real, Study, StudyCell
from common.storage import write_text
from common.study.cells import check_cells_per_run
from common.study.costs import check_budget, estimate
from components.report.page import own_seconds, page_of
from components.report_study.page import markdown, page
from pipelines.cluster.api import Cluster, Connection, cluster_profile, submit
from pipelines.cluster.placement import load_profile
from pipelines.commands.arguments import dollars, number, study_arguments, study_request
from pipelines.commands.options import RUN_OPTIONS
from pipelines.dags.compile import compile_pipeline
from pipelines.local.run import UNFINISHED, execute, one_run
from pipelines.local.tasks import TASKS, numbered, stage_of
from pipelines.sources import ROOT

OPTIONS = RUN_OPTIONS | {
    **{"--datasets": "demo", "--n": "", "--price": "0", "--gpu": "", "--history": "", "--dry-run": False}
}

PIPELINE = "synthio-benchmark"


def run(options: argparse.Namespace) -> int:
    """Check the options, print the estimated cost, run the study and report it.

    Exit status 0 = every cell succeeded (on a cluster without `--follow`: the run was started), 1 = a failure.
    """
    TASKS.install()
    wanted = study_request(options)
    config = load_preset(options.preset, options.overrides)
    methods = resolve_methods(options.methods, config.methods)
    replicates, price = number("SEEDS", options.seeds, 1), dollars("PRICE", options.price)
    clips, clip_s = [each.n or each.spec.n or 0 for each in wanted], [each.spec.clip_s for each in wanted]
    cost = estimate(clips, options.preset, methods, replicates, price, clip_s=clip_s, config=config, gpu=options.gpu)
    print("\n".join(cost_lines(cost)), flush=True)
    check_budget(cost, dollars("BUDGET", options.budget))
    if options.dry_run:
        if missing := sorted({each.spec.name for each in wanted if each.missing}):
            print(f"not on this machine: {', '.join(missing)}")
        return 0
    arguments = study_arguments(options, wanted)
    connection = Connection.from_environment()
    if connection is not None:
        profile = cluster_profile(options.profile)
        check_cells_per_run(len(wanted), load_profile(profile).cells_per_run)
        package = compile_pipeline(ROOT / "build" / "benchmark.yaml", profile, options.fresh, "benchmark")
        return submit(Cluster(connection), PIPELINE, package, "benchmark", arguments, options.follow, options.fresh)
    with one_run(options.runs):
        return run_study(arguments, options)


def cost_lines(cost: Estimate) -> list[str]:
    """Format the estimate as lines of text."""
    stages = ", ".join(f"{name} {seconds / 3600:.2f}" for name, seconds in cost.stages.items() if seconds >= 36)
    kind = f" of one {cost.gpu}" if cost.gpu else ""
    return [
        f"estimate, with an empty store: {cost.cells} cells, {cost.items} classifiers, "
        f"{cost.gpu_hours:.2f} GPU-hours{kind}, {cost.cpu_hours:.2f} CPU-hours, {cost.storage_gb:.2f} GB, "
        f"{cost.money:.2f} US dollars at {cost.price_per_hour:.2f} an hour",
        f"  hours by stage: {stages or 'less than 0.01 each'}",
        f"  source: {cost.source}",
    ]


def run_study(arguments: dict[str, Any], options: argparse.Namespace) -> int:
    """Run the compiled benchmark pipeline on this machine, and publish the study; see `run_local`.

    Returns exit status: 0 = every cell succeeded, 1 = something failed.
    """
    specs = [yaml.safe_load(cell["dataset"]) for cell in json.loads(arguments["cells"])]
    what = f"a study of {len(specs)} cells"
    folder, run, _, observer = execute("benchmark", arguments, "study", what, specs, options)
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
    """Rows of one cell's tasks, named as in a run of that cell alone."""
    count: Counter[str] = Counter()
    return [{**row, "name": numbered(stage_of(row["name"]), count)} for row in stages if row.get("cell") == index]


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
        name = stage_of(row["name"])
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
        if results := artifacts.get(row["name"], {}).get("results"):
            dataset, own = read(Report, Path(results) / "report.json").dataset, rows_of_cell(run["stages"], row["cell"])
            place = folder / "cells" / f"{dataset.name}-{dataset.n}"
            shutil.copytree(results, place)
            known = {"stages": own, "wall_seconds": sum(each["seconds"] for each in own), "machine": run["machine"]}
            write_text(place / "report.html", page_of(place, known))
    return study
