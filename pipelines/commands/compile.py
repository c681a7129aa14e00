"""Compile a pipeline to `build/synthio.yaml` or `build/benchmark.yaml` (`make compile`); the bytes are reproducible."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.commands.arguments import place
from pipelines.dags.compile import PIPELINES, compile_pipeline


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("target", nargs="?", type=place, help="default: build/PIPELINE.yaml")
    parser.add_argument("--pipeline", default="synthio", choices=PIPELINES)
    parser.add_argument("--profile", default="local", help="one of pipelines/profiles, or a YAML file")


def run(options: argparse.Namespace) -> int:
    """Compile the pipeline and print the path of the file; exit status 0."""
    target = options.target or Path("build") / f"{options.pipeline}.yaml"
    print(compile_pipeline(target, options.profile, pipeline=options.pipeline))
    return 0
