"""Compile a pipeline to `build/synthio.yaml` or `build/benchmark.yaml`; the same bytes every time."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import yaml
from kfp import compiler

from common.config.run import preset_names
from pipelines.cluster.placement import load_profile

PIPELINES = ("synthio", "benchmark")


def compile_pipeline(target: Path, profile: str = "local", fresh: bool = False, pipeline: str = "synthio") -> Path:
    """Write the DAG `pipeline`, placed as `profile` says, to `target` (atomically) and return it.

    With `fresh`, no task takes its result from an earlier run: the client of KFP can switch that neither for a version
    that was uploaded nor for tasks of nested pipelines.
    """
    from pipelines.dags.benchmark import benchmark_pipeline
    from pipelines.dags.synthio import synthio_pipeline

    build = benchmark_pipeline if pipeline == "benchmark" else synthio_pipeline
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".compile-", dir=target.parent) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = Path(folder) / target.name
        compiler.Compiler().compile(build(load_profile(profile)), str(made))
        made.write_text(_completed(made.read_text(encoding="utf-8"), fresh), encoding="utf-8")
        made.replace(target)
    return target


def _completed(text: str, fresh: bool) -> str:
    """The compiled YAML with the values of parameters that have few: KFP's UI shows them as a drop-down list.

    The specification knows `literals`, but the SDK does not write them yet. With `fresh`, without any task's caching.
    """
    header, separator, body = text.partition("components:\n")
    documents = list(yaml.safe_load_all(separator + body))
    parameters = documents[0]["root"]["inputDefinitions"]["parameters"]
    parameters["preset"]["literals"] = list(preset_names())
    if fresh:
        for part in (documents[0]["root"], *documents[0]["components"].values()):
            for task in part.get("dag", {}).get("tasks", {}).values():
                task.pop("cachingOptions", None)
    return header + yaml.safe_dump_all(documents, sort_keys=True)
