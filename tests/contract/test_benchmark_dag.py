"""The compiled benchmark: one loop over cells, its body the synthio pipeline, the report after it in any case."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from pipelines.dags.compile import compile_pipeline

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "benchmark_dag.json"


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    compiled = compile_pipeline(tmp_path_factory.mktemp("build") / "benchmark.yaml", pipeline="benchmark")
    document: dict[str, Any] = next(yaml.safe_load_all(compiled.read_text(encoding="utf-8")))
    return document


def test_task_names_and_edges_equal_the_golden_dag(spec: dict[str, Any]) -> None:
    dags = {"": spec["root"]["dag"]}
    dags |= {name: part["dag"] for name, part in spec["components"].items() if "dag" in part}
    found = {
        f"{prefix}/{name}".lstrip("/"): sorted(task.get("dependentTasks", []))
        for prefix, dag in dags.items()
        for name, task in dag["tasks"].items()
    }
    assert found == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_there_is_one_loop_and_its_parameters_are_few(spec: dict[str, Any]) -> None:
    parts = [spec["root"], *spec["components"].values()]
    loops = [
        task for part in parts for task in part.get("dag", {}).get("tasks", {}).values() if "parameterIterator" in task
    ]
    assert len(loops) == 1 and loops[0]["iteratorPolicy"] == {"parallelismLimit": 1}
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) == {"cells", "preset", "methods", "seeds", "overrides", "budget", "history"}


def test_the_report_runs_also_when_a_cell_failed(spec: dict[str, Any]) -> None:
    report = spec["root"]["dag"]["tasks"]["report-study"]
    assert report["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert report["dependentTasks"] == ["study-cells"]


def test_the_file_is_a_valid_pipeline_spec_with_a_profile_of_a_cluster(tmp_path: Path) -> None:
    compiled = compile_pipeline(tmp_path / "b.yaml", "one-gpu", pipeline="benchmark")
    document, platform = yaml.safe_load_all(compiled.read_text(encoding="utf-8"))
    json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())
    assert "exec-pretrain-t2a" in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def test_compiling_twice_under_different_hash_seeds_gives_equal_bytes(tmp_path: Path) -> None:
    files = []
    for seed in ("0", "1"):
        target = tmp_path / f"{seed}.yaml"
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "pipelines", "compile", "--pipeline", "benchmark", str(target)]
        subprocess.run(command, check=True, cwd=ROOT, env=environment)
        files.append(target.read_bytes())
    assert files[0] == files[1]
