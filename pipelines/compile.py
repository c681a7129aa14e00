"""Compile the pipeline to `build/synthio.yaml`; the same bytes every time."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

from kfp import compiler

from pipelines.placement import load_profile


def compile_pipeline(target: Path, profile: str = "local") -> Path:
    """Write the DAG, placed as `profile` says, to `target` (atomically) and return it."""
    from pipelines.synthio import synthio_pipeline

    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp.yaml")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiler.Compiler().compile(synthio_pipeline(load_profile(profile)), str(temporary))
    temporary.replace(target)
    return target


def main() -> None:
    """Entry point of `make compile`."""
    parser = argparse.ArgumentParser(prog="make compile", description=__doc__)
    parser.add_argument("target", nargs="?", type=Path, default=Path("build/synthio.yaml"))
    parser.add_argument("--profile", default="local", help="one of pipelines/profiles, or a YAML file")
    options = parser.parse_args()
    print(compile_pipeline(options.target, options.profile))


if __name__ == "__main__":
    main()
