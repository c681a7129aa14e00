"""Run a study of several datasets and sizes on this machine, or with KFP_HOST on a cluster (`make benchmark`).

With `--dry-run` it only prints the estimated cost.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from common.config.methods import resolve_methods
from common.config.run import load_preset
from common.contracts.study import Estimate
from common.study.cells import check_cells_per_run
from common.study.costs import check_budget, estimate
from pipelines.cluster.api import Cluster, Connection
from pipelines.cluster.placement import load_profile
from pipelines.cluster.submit import cluster_profile, submit
from pipelines.commands.arguments import dollars, number, study_arguments, study_request
from pipelines.commands.options import RUN_OPTIONS
from pipelines.commands.wanted import Wanted
from pipelines.dags.compile import compile_pipeline
from pipelines.local.run import one_run
from pipelines.local.stopping import TASKS
from pipelines.local.study import run_study
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
    cost = study_cost(options, wanted)
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
        return run_study(arguments, options.runs.resolve(), options.runner, options.store, options.fresh)


def study_cost(options: argparse.Namespace, wanted: Sequence[Wanted]) -> Estimate:
    """Estimate the cost of a study of these cells."""
    config = load_preset(options.preset, options.overrides)
    methods = resolve_methods(options.methods, config.methods)
    replicates, price = number("SEEDS", options.seeds, 1), dollars("PRICE", options.price)
    clips, clip_s = [each.n or each.spec.n or 0 for each in wanted], [each.spec.clip_s for each in wanted]
    return estimate(clips, options.preset, methods, replicates, price, clip_s=clip_s, config=config, gpu=options.gpu)


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
