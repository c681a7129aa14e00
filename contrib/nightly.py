"""Create or replace the nightly recurring run of a study (`KFP_HOST=… make schedule-nightly [CELLS=esc50:100,…]`)."""

from __future__ import annotations

import argparse
import json
from typing import Any

from common.config.methods import resolve_methods
from common.config.run import load_preset
from common.errors import ConfigError
from common.study.cells import check_cells_per_run
from pipelines.cluster.api import Cluster, Connection, with_name
from pipelines.cluster.placement import load_profile
from pipelines.commands.arguments import number
from pipelines.commands.benchmark import PIPELINE
from pipelines.dags.compile import compile_pipeline
from pipelines.sources import ROOT

OPTIONS = {"--cells": ..., "--preset": "small", "--methods": "", "--seeds": "3", "--profile": "one-gpu"}

PACKAGE = ROOT / "build" / "nightly.yaml"

NAME = "synthio-nightly"
CRON = "0 0 2 * * *"
"""Cron expression with seconds first: every night at two o'clock, UTC."""


def schedule(cluster: Cluster, pipeline: tuple[str, str], params: dict[str, Any]) -> str:
    """Create and enable the recurring run, delete older ones of the same name, and return its id.

    Recurring runs cannot be changed in place. The new one is created disabled, the old ones are deleted, and then the
    new one is enabled; so two are never active, and a failure in between leaves at least one.

    Args:
        cluster: client of the API.
        pipeline: ids of pipeline and version. Compile it with `fresh=True`: a night with cached tasks would measure the
            cache, and the client's own switch has no effect on an uploaded version.
    """
    client = cluster.client
    experiment_id = cluster.experiment(NAME)
    made = cluster.ask(
        lambda: client.create_recurring_run(
            experiment_id,
            NAME,
            cron_expression=CRON,
            max_concurrency=1,
            no_catchup=True,
            params=params,
            pipeline_id=pipeline[0],
            version_id=pipeline[1],
            enabled=False,
        ),
        attempts=1,
    )
    new = str(made.recurring_run_id)
    found = cluster.ask(
        lambda: client.list_recurring_runs(page_size=100, experiment_id=experiment_id, filter=with_name(NAME))
    )
    # A server that knows no such filter must not cost other schedules.
    same = {row.recurring_run_id for row in found.recurring_runs or [] if row.display_name == NAME}
    for old in same - {made.recurring_run_id}:
        cluster.ask(lambda old=old: client.delete_recurring_run(old))  # type: ignore[misc]  # the loop's variable
    cluster.ask(lambda: client.enable_recurring_run(new))
    return new


def cells_of(text: str) -> list[dict[str, Any]]:
    """Parse cells such as `esc50:100,s3://bucket/birds.yaml:50` for the benchmark pipeline.

    Raises ConfigError: a part is not `dataset:n`, or there is none.
    """
    cells = []
    for part in text.replace(",", " ").split():
        dataset, colon, n = part.rpartition(":")
        if not colon or not dataset or not n.isdecimal() or int(n) < 1:
            raise ConfigError(f"CELLS: {part!r}; expected dataset:n, for example esc50:100")
        cells.append({"dataset": dataset, "n": int(n)})
    if not cells:
        raise ConfigError("CELLS is empty; expected dataset:n, for example esc50:100")
    return cells


def run(options: argparse.Namespace) -> int:
    """Create or replace the recurring run; exit status 0 = it is in place, 2 = bad input."""
    connection = Connection.from_environment()
    if connection is None:
        raise ConfigError(
            "KFP_HOST is not set, and nights run on a cluster; for example KFP_HOST=https://kfp.example.com"
        )
    profile, cells = load_profile(options.profile), cells_of(options.cells)
    if not profile.cluster:
        raise ConfigError(f"profile {options.profile} is for this machine; for example PROFILE=one-gpu")
    resolve_methods(options.methods, load_preset(options.preset).methods)
    check_cells_per_run(len(cells), profile.cells_per_run)
    params = {
        "cells": json.dumps(cells),
        "preset": options.preset,
        "methods": options.methods,
        "seeds": number("SEEDS", options.seeds, 1),
        "history": NAME,
    }
    package = compile_pipeline(PACKAGE, options.profile, fresh=True, pipeline="benchmark")
    cluster = Cluster(connection)
    made = schedule(cluster, cluster.version(PIPELINE, package), params)
    print(f"recurring run {made}: every night at two o'clock UTC, one at a time; experiment {NAME}")
    return 0
