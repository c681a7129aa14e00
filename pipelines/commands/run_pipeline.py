"""Run the whole pipeline on a dataset, on this machine or with KFP_HOST on a cluster (`make run-pipeline`)."""

import argparse

from common.datasets.registry import resolve_dataset
from pipelines.cluster.api import Cluster, Connection, cluster_profile, submit
from pipelines.commands.arguments import pipeline_arguments
from pipelines.commands.options import RUN_OPTIONS
from pipelines.dags.compile import compile_pipeline
from pipelines.local.run import one_run, run_local
from pipelines.local.tasks import TASKS
from pipelines.sources import ROOT

OPTIONS = RUN_OPTIONS | {"--dataset": "demo", "--n": "", "--reuse-t2a-from": "", "--llm-endpoint": ""}


def run(options: argparse.Namespace) -> int:
    """Compile and run the pipeline, publish the results, and print the verdict and the report's path.

    Exit status 0 = every part succeeded (on a cluster without `--follow`: the run was started), 1 = a failure.
    """
    TASKS.install()
    arguments = pipeline_arguments(options)
    connection = Connection.from_environment()
    if connection is not None:
        profile = cluster_profile(options.profile)
        package = compile_pipeline(ROOT / "build" / "synthio.yaml", profile, options.fresh)
        experiment = resolve_dataset(arguments["dataset"]).name
        return submit(Cluster(connection), "synthio", package, experiment, arguments, options.follow, options.fresh)
    with one_run(options.runs):
        return run_local(arguments, options)
