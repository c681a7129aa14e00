"""Compile both pipelines, to `build/synthio.yaml` and `build/benchmark.yaml` (`make compile`)."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.commands.arguments import place
from pipelines.dags.compile import PIPELINES, compile_pipeline


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("folder", nargs="?", type=place, default=Path("build"))
    parser.add_argument("--profile", default="local", help="one of pipelines/profiles, or a YAML file")


def run(options: argparse.Namespace) -> int:
    """Compile both pipelines and print the paths of the files; exit status 0."""
    for pipeline in PIPELINES:
        print(compile_pipeline(options.folder / f"{pipeline}.yaml", options.profile, pipeline=pipeline), flush=True)
    return 0
