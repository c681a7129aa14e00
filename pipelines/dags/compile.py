"""Compilation of a pipeline to `build/synthio.yaml` or `build/benchmark.yaml`; the bytes are reproducible."""

import ast
import warnings
from pathlib import Path

import yaml
from kfp import compiler

from common.config.run import preset_names
from common.storage import publish_file
from pipelines.cluster.placement import load_profile
from pipelines.sources import without_docstrings

PIPELINES = ("synthio", "benchmark")


def compile_pipeline(target: Path, profile: str = "local", fresh: bool = False, pipeline: str = "synthio") -> Path:
    """Compile a pipeline, placed by a profile, to `target` (atomically); return `target`.

    Args:
        fresh: disable caching of every task; KFP's client can do that neither for an uploaded version nor for tasks of
            nested pipelines.

    Raises:
        ConfigError: the profile is unknown or wrong.
        StorageError: `target` cannot be written.
    """
    from pipelines.dags.benchmark import benchmark_pipeline
    from pipelines.dags.synthio import synthio_pipeline

    build = benchmark_pipeline if pipeline == "benchmark" else synthio_pipeline
    with publish_file(target) as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiler.Compiler().compile(build(load_profile(profile)), str(made))
        made.write_text(_completed(made.read_text(encoding="utf-8"), fresh), encoding="utf-8")
    return target


def _completed(text: str, fresh: bool) -> str:
    """Complete the compiled YAML with what the SDK does not write.

    Adds the preset names as `literals`, which KFP's UI shows as a drop-down list. Removes docstrings from the
    components' sources, since KFP's cache keys contain the source, and the descriptions of the components' inputs and
    outputs, which no page shows and which Argo keeps several times for each task: a fifth of what a cell of a study
    adds to the state of a run, whose size is limited. With `fresh`, removes the caching of all tasks.
    """
    header, separator, body = text.partition("components:\n")
    documents = list(yaml.load_all(separator + body, yaml.CSafeLoader))
    pipeline = documents[0]
    pipeline["root"]["inputDefinitions"]["parameters"]["preset"]["literals"] = list(preset_names())
    for executor in pipeline["deploymentSpec"]["executors"].values():
        command = executor["container"]["command"]
        command[-1] = ast.unparse(without_docstrings(command[-1]))
    for component in pipeline["components"].values():
        for kind in ("inputDefinitions", "outputDefinitions"):
            for defined in component.get(kind, {}).values():
                for one in defined.values():
                    one.pop("description", None)
    if fresh:
        for part in (pipeline["root"], *pipeline["components"].values()):
            for task in part.get("dag", {}).get("tasks", {}).values():
                task.pop("cachingOptions", None)
    return header + yaml.dump_all(documents, Dumper=yaml.CSafeDumper, sort_keys=True)
