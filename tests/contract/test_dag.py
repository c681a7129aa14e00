"""The compiled DAG: its shape, its bytes, its validity."""

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

from common.config.run import preset_names
from pipelines.dags.compile import compile_pipeline

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "dag.json"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_pipeline(tmp_path_factory.mktemp("build") / "synthio.yaml")


def edges(compiled: Path) -> dict[str, list[str]]:
    document = next(yaml.safe_load_all(compiled.read_text(encoding="utf-8")))
    dags = {"": document["root"]["dag"]}
    dags |= {name: part["dag"] for name, part in document["components"].items() if "dag" in part}
    found = {}
    for prefix, dag in dags.items():
        for name, task in dag["tasks"].items():
            found[f"{prefix}/{name}".lstrip("/")] = sorted(task.get("dependentTasks", []))
    return found


def test_task_names_and_edges_equal_the_golden_dag(compiled: Path) -> None:
    assert edges(compiled) == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_only_evaluation_receives_the_test_split(compiled: Path) -> None:
    document = next(yaml.safe_load_all(compiled.read_text(encoding="utf-8")))
    receivers = []

    def visit(prefix: str, dag: dict[str, Any]) -> None:
        for name, task in dag["tasks"].items():
            for wired in task.get("inputs", {}).get("artifacts", {}).values():
                if wired.get("taskOutputArtifact", {}).get("outputArtifactKey") == "test":
                    receivers.append(prefix + name)

    visit("", document["root"]["dag"])
    for name, part in document["components"].items():
        if "dag" in part:
            visit(name + "/", part["dag"])
    assert receivers == ["evaluate-classifier"]


def test_compiling_twice_under_different_hash_seeds_gives_equal_bytes(tmp_path: Path) -> None:
    files = []
    for seed in ("0", "1"):
        target = tmp_path / f"{seed}.yaml"
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        subprocess.run(
            [sys.executable, "-m", "pipelines", "compile", str(target)], check=True, cwd=ROOT, env=environment
        )
        files.append(target.read_bytes())
    assert files[0] == files[1]


def test_the_compiled_file_is_a_valid_pipeline_spec(compiled: Path) -> None:
    document = next(yaml.safe_load_all(compiled.read_text(encoding="utf-8")))
    json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())


def test_every_cached_stage_carries_its_code_version(compiled: Path) -> None:
    document = next(yaml.safe_load_all(compiled.read_text(encoding="utf-8")))
    for name, part in document["components"].items():
        if "executorLabel" in part:
            assert "code_version" in part["inputDefinitions"]["parameters"], name


def test_the_ui_offers_the_presets_as_a_list(compiled: Path) -> None:
    document = next(yaml.safe_load_all(compiled.read_text(encoding="utf-8")))
    assert set(document["root"]["inputDefinitions"]["parameters"]["preset"]["literals"]) == set(preset_names())


def test_the_ui_describes_every_parameter(compiled: Path) -> None:
    document = next(yaml.safe_load_all(compiled.read_text(encoding="utf-8")))
    parameters = document["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) == {
        *("dataset", "preset", "n", "methods", "seeds", "reuse_t2a_from", "llm_endpoint", "budget"),
        *("overrides", "data_version"),
    }
    assert all(len(value.get("description", "")) > 10 and value["isOptional"] for value in parameters.values())


def test_every_task_has_a_name_in_plain_words_of_its_own(compiled: Path) -> None:
    document = next(yaml.safe_load_all(compiled.read_text(encoding="utf-8")))
    dags = [document["root"]["dag"], *(part["dag"] for part in document["components"].values() if "dag" in part)]
    for dag in dags:
        names = [task["taskInfo"]["name"] for task in dag["tasks"].values()]
        assert len(set(names)) == len(names)
        assert all(name[0].isupper() and "_" not in name for name in names), names


def test_the_page_of_a_run_shows_verdict_figures_confusion_and_report(compiled: Path) -> None:
    document = next(yaml.safe_load_all(compiled.read_text(encoding="utf-8")))
    outputs = document["components"]["comp-report"]["outputDefinitions"]["artifacts"]
    shown = {name: value["artifactType"]["schemaTitle"] for name, value in outputs.items()}
    assert shown == {
        "results": "system.Dataset",
        "html": "system.HTML",
        "markdown": "system.Markdown",
        "confusion": "system.ClassificationMetrics",
        "metrics": "system.Metrics",
    }
