"""Compile the pipeline to `build/synthio.yaml`; the same bytes every time."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import yaml
from kfp import compiler

from common.config.run import preset_names
from pipelines.placement import load_profile


def compile_pipeline(target: Path, profile: str = "local") -> Path:
    """Write the DAG, placed as `profile` says, to `target` (atomically) and return it."""
    from pipelines.synthio import synthio_pipeline

    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp.yaml")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiler.Compiler().compile(synthio_pipeline(load_profile(profile)), str(temporary))
    temporary.write_text(_with_choices(temporary.read_text(encoding="utf-8")), encoding="utf-8")
    temporary.replace(target)
    return target


def _with_choices(text: str) -> str:
    """The compiled YAML with the values of parameters that have few: KFP's UI shows them as a drop-down list.

    The specification knows `literals`, but the SDK does not write them yet.
    """
    header, separator, body = text.partition("components:\n")
    documents = list(yaml.safe_load_all(separator + body))
    parameters = documents[0]["root"]["inputDefinitions"]["parameters"]
    parameters["preset"]["literals"] = list(preset_names())
    return header + yaml.safe_dump_all(documents, sort_keys=True)


def main() -> None:
    """Entry point of `make compile`."""
    parser = argparse.ArgumentParser(prog="make compile", description=__doc__)
    parser.add_argument("target", nargs="?", type=Path, default=Path("build/synthio.yaml"))
    parser.add_argument("--profile", default="local", help="one of pipelines/profiles, or a YAML file")
    options = parser.parse_args()
    print(compile_pipeline(options.target, options.profile))


if __name__ == "__main__":
    main()
