"""Run the whole pipeline on a dataset, on this machine or with KFP_HOST on a cluster (`make run-pipeline`)."""

from __future__ import annotations

import argparse

from common.datasets.registry import resolve_dataset
from pipelines.cluster.api import Cluster, Connection
from pipelines.cluster.submit import cluster_profile, submit
from pipelines.commands.arguments import add_run_arguments, pipeline_arguments
from pipelines.dags.compile import compile_pipeline
from pipelines.local.run import one_run, run_local
from pipelines.local.stopping import TASKS
from pipelines.sources import ROOT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_run_arguments(parser)
    parser.add_argument("--dataset", default="demo", help="a registered name or a dataset YAML")
    parser.add_argument("--n", default="", help="number of training clips; default: the dataset's")
    parser.add_argument("--reuse-t2a-from", default="", help="text-to-audio model of an earlier run, folder or s3://…")
    parser.add_argument("--llm-endpoint", default="", help="OpenAI-compatible server that writes the captions")


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
        return run_local(arguments, options.runs.resolve(), options.runner, options.store, options.fresh)
