"""Run a study on this machine, or with KFP_HOST on a cluster (`make benchmark`); `--dry-run` prints its cost only."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import itertools
import json
import shutil
import sys
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from common.errors import ConfigError, SynthioError
from common.methods import resolve_methods
from common.storage import read_json, write_json, write_text
from common.study.cells import parse_cells
from common.study.costs import check_budget, estimate
from components.report.timing import own_seconds
from components.report_study.page import markdown, render
from pipelines.cluster import Cluster, Connection
from pipelines.compile import compile_pipeline
from pipelines.console import Console
from pipelines.observe import Observer
from pipelines.placement import load_profile
from pipelines.run import ROOT, dollars, machine, number, one_run, pipeline_arguments, prepare_local
from pipelines.stopping import TASKS, Stopped

PIPELINE = "synthio-benchmark"
LOOPED_UNFINISHED = {"train-classifier", "evaluate-classifier", "report"}
"""Stages that hand on what is left when an item failed: they must not count as done next time."""


def main(argv: list[str] | None = None) -> int:
    """Check, print the cost, run, report.

    Returns:
        0 when every cell succeeded, 1 on a failure, 2 on bad input, 128 + the signal that ended it.
    """
    options = _parser().parse_args(argv)
    TASKS.install()
    try:
        arguments = study_arguments(options)
        cost = study_cost(arguments, dollars("PRICE", options.price))
        print("\n".join(cost_lines(cost)), flush=True)
        check_budget(cost, arguments["budget"])
        if options.dry_run:
            return 0
        connection = Connection.from_environment()
        if connection is not None:
            return _submit(connection, arguments, options)
        with one_run(Path(options.runs)):
            return run_study(arguments, Path(options.runs).resolve(), options.runner, options.store, options.fresh)
    except SynthioError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return stopped.status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make benchmark", description=__doc__)
    parser.add_argument("--datasets", default="demo", help="comma-separated registered names or dataset YAMLs")
    parser.add_argument("--n", default="", help="comma-separated numbers of training clips; default: the datasets'")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--methods", default="", help="comma-separated")
    parser.add_argument("--seeds", default="3", help="number of replicates")
    parser.add_argument("--overrides", default="", help="section.field=value …")
    parser.add_argument("--budget", default="0", help="US dollars by estimate; 0 = no limit")
    parser.add_argument("--price", default="0", help="US dollars an hour; 0 = that of common/study/costs.yaml")
    parser.add_argument("--history", default="", help="of nights, to add this study to and to compare it with")
    parser.add_argument("--runs", default="runs", help="folder of all runs and of the store")
    parser.add_argument("--store", default="", help="of finished work: a folder or s3://…; default: RUNS/store")
    parser.add_argument("--runner", default="subprocess", choices=("subprocess", "docker"))
    parser.add_argument("--profile", default="", help="with KFP_HOST: where the stages run; default: one-gpu")
    parser.add_argument("--dry-run", action="store_true", help="print the cost only")
    parser.add_argument("--fresh", action="store_true", help="run every task again; the items in the store still count")
    parser.add_argument("--follow", action="store_true", help="with KFP_HOST: wait until the run ends")
    return parser


def study_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """The benchmark pipeline's parameters, checked before anything starts.

    Raises:
        ConfigError: a name or number is wrong.
    """
    datasets, sizes = _listed(options.datasets), _listed(options.n) or ["0"]
    if not datasets:
        raise ConfigError("DATASETS is empty; name at least one, such as DATASETS=demo")
    cells = []
    for dataset, n in itertools.product(datasets, sizes):
        single = argparse.Namespace(
            dataset=dataset,
            n=n,
            preset=options.preset,
            methods=options.methods,
            seeds=options.seeds,
            overrides=options.overrides,
            reuse_t2a_from="",
            llm_endpoint="",
            budget="0",
        )
        resolved = pipeline_arguments(single)
        cells.append({key: resolved[key] for key in ("dataset", "n", "data_version")})
    text = json.dumps(cells, sort_keys=True)
    parse_cells(text)
    return {
        "cells": text,
        "preset": options.preset,
        "methods": options.methods,
        "seeds": number("SEEDS", options.seeds, 1),
        "overrides": options.overrides,
        "budget": dollars("BUDGET", options.budget),
        "history": options.history,
    }


def study_cost(arguments: dict[str, Any], price: float = 0.0) -> dict[str, Any]:
    """The estimate of `common.study.costs` for the pipeline's parameters."""
    clips = [cell.names()[1] for cell in parse_cells(arguments["cells"])]
    return estimate(clips, arguments["preset"], len(resolve_methods(arguments["methods"])), arguments["seeds"], price)


def cost_lines(cost: dict[str, Any]) -> list[str]:
    """The estimate for people."""
    stages = ", ".join(f"{name} {seconds / 3600:.2f}" for name, seconds in cost["stages"].items() if seconds >= 36)
    return [
        f"estimate, with an empty store: {cost['cells']} cells, {cost['items']} classifiers, "
        f"{cost['gpu_hours']:.2f} GPU-hours, {cost['cpu_hours']:.2f} CPU-hours, {cost['storage_gb']:.2f} GB, "
        f"{cost['money']:.2f} US dollars at {cost['price_per_hour']:.2f} an hour",
        f"  hours by stage: {stages or 'less than 0.01 each'}",
        f"  source: {cost['source']}",
    ]


def run_study(
    arguments: dict[str, Any], runs: Path, runner: str = "subprocess", store: str = "", fresh: bool = False
) -> int:
    """Run `build/benchmark.yaml` on this machine, one cell after another, and publish the study below `runs`."""
    from kfp import components

    start = time.monotonic()
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    folder = runs / f"study-{arguments['preset']}-{stamp}"
    folder.mkdir(parents=True)
    compiled = compile_pipeline(ROOT / "build" / "benchmark.yaml", pipeline="benchmark")
    specs = [yaml.safe_load(cell["dataset"]) for cell in json.loads(arguments["cells"])]
    places = prepare_local(runs, runner, store, fresh, specs)
    print(f"running a study of {len(specs)} cells; full log: {folder / 'log.txt'}", flush=True)
    console = Console(folder / "log.txt")
    observer = Observer(console.take_error)
    state = "failed"
    try:
        with places, observer.watching(), contextlib.redirect_stdout(console), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            components.load_component_from_file(str(compiled))(**arguments)
        state = "succeeded"
    except RuntimeError:
        errors = [
            f"{row['name']}: {row['error'] or 'see the log'}" for row in observer.stages if row.get("error") is not None
        ]
        print("\n".join(f"error in {error}" for error in errors), file=sys.stderr)
        print(f"full log: {folder / 'log.txt'}", file=sys.stderr)
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    finally:
        run = {
            "state": state,
            "wall_seconds": round(time.monotonic() - start, 2),
            "stages": observer.stages,
            "machine": machine(),
            "arguments": arguments,
            "artifacts": observer.artifacts,
        }
        write_json(folder / "run.json", run)
        console.close()
    if "report-study" not in observer.artifacts or not observer.artifacts["report-study"]:
        return 1
    study = publish(observer.artifacts, folder, run)
    if study["failures"]:
        observer.evict(LOOPED_UNFINISHED)
    for failure in study["failures"]:
        print(f"failed: {json.dumps(failure)}", file=sys.stderr)
    for cell in study["cells"]:
        text = cell["verdict"]["text"] if cell["verdict"] else "did not finish"
        print(f"{cell['dataset']}, n = {cell['n']}: {text}")
    print(f"report: {folder / 'study.html'}")
    return 0 if state == "succeeded" and study["state"] == "complete" else 1


def rows_of_cell(stages: Sequence[Mapping[str, Any]], index: int) -> list[dict[str, Any]]:
    """The tasks of one cell, named as in a run of that cell alone: `synthesize-audio`, `synthesize-audio-2`, …"""
    count: Counter[str] = Counter()
    rows = []
    for row in stages:
        if row.get("cell") == index:
            name = row["name"].rstrip("-0123456789")
            count[name] += 1
            rows.append({**row, "name": name if count[name] == 1 else f"{name}-{count[name]}"})
    return rows


def with_run(study: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """study.json with what only the run knows: times by stage, machine, real cost, and which stage of a cell failed."""
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
    """Copy the study's report and each finished cell's to `folder`; returns the content of study.json."""
    source = Path(artifacts["report-study"]["study"])
    study = with_run(read_json(source / "study.json"), run)
    write_json(folder / "study.json", study)
    write_text(folder / "study.html", render(study))
    write_text(folder / "study.md", markdown(study))
    if "record-night" in artifacts:
        shutil.copyfile(Path(artifacts["record-night"]["night"]) / "trend.html", folder / "trend.html")
    for label, outputs in artifacts.items():
        if label.rstrip("-0123456789") == "report" and "results" in outputs:
            dataset = read_json(Path(outputs["results"]) / "report.json")["dataset"]
            shutil.copytree(outputs["results"], folder / "cells" / f"{dataset['name']}-{dataset['n']}")
    return study


def _submit(connection: Connection, arguments: dict[str, Any], options: argparse.Namespace) -> int:
    profile = options.profile or "one-gpu"
    if not load_profile(profile).cluster:
        raise ConfigError(f"profile {profile} is for this machine, but KFP_HOST is set: unset it, or PROFILE=one-gpu")
    package = compile_pipeline(ROOT / "build" / "benchmark.yaml", profile, options.fresh, "benchmark")
    cluster = Cluster(connection)
    run_id = cluster.start(cluster.version(PIPELINE, package), "benchmark", arguments)
    print(f"run: {cluster.url(run_id)}", flush=True)
    return cluster.follow(run_id, lambda line: print(line, flush=True)) if options.follow else 0


def _listed(text: str) -> list[str]:
    return [part for part in text.replace(",", " ").split() if part]


if __name__ == "__main__":
    sys.exit(main())
