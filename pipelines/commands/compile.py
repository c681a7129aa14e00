"""Compile both pipelines, to `build/synthio.yaml` and `build/benchmark.yaml` (`make compile`)."""

import argparse

from pipelines.dags.compile import PIPELINES, compile_pipeline

OPTIONS = {"folder": "build", "--profile": "local"}


def run(options: argparse.Namespace) -> int:
    """Compile both pipelines and print the paths of the files; exit status 0."""
    for pipeline in PIPELINES:
        print(compile_pipeline(options.folder / f"{pipeline}.yaml", options.profile, pipeline=pipeline), flush=True)
    return 0
