"""The compiled pipeline: its edges that matter, its bytes, its validity."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from common.config.run import preset_names
from tests.kit.once import Compiled

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def document(compiled: Compiled) -> dict[str, Any]:
    found: dict[str, Any] = compiled.documents()[0]
    return found


def upstream(dag: dict[str, Any], task: str) -> set[str]:
    """All tasks of a DAG that end before `task` begins."""
    found: set[str] = set()
    queue = [task]
    while queue:
        new = set(dag["tasks"][queue.pop()].get("dependentTasks", [])) - found
        found |= new
        queue += new
    return found


def inputs(dag: dict[str, Any], task: str) -> dict[str, str]:
    """Artifacts of a task that another task of the DAG made: the input's name to `task.output`."""
    wired = dag["tasks"][task].get("inputs", {}).get("artifacts", {})
    made = {name: value["taskOutputArtifact"] for name, value in wired.items() if "taskOutputArtifact" in value}
    return {name: f"{value['producerTask']}.{value['outputArtifactKey']}" for name, value in made.items()}


@pytest.mark.parametrize(
    ("task", "name", "source"),
    [
        ("pretrain-t2a", "corpus", "prepare-corpus.corpus"),
        ("pretrain-classifier", "corpus", "prepare-corpus.corpus"),
        ("synthesize-audio", "t2a", "pretrain-t2a.t2a"),
        ("align-t2a", "losers", "synthesize-audio.synthetic"),
        ("align-t2a", "gold", "prepare-dataset.gold"),
        ("synthesize-audio-2", "aligned", "align-t2a.aligned"),
        ("synthesize-audio-2", "prompts", "augment-captions.prompts"),
        ("filter-audio", "synthetic", "synthesize-audio-2.synthetic"),
        ("filter-audio", "clap", "finetune-clap.finetuned"),
        ("train-classifier", "classifier", "pretrain-classifier.classifier"),
        ("train-classifier", "retrieved", "retrieve-audio.retrieved"),
        ("train-classifier", "clap", "pretrain-clap.clap"),
        ("evaluate-classifier", "classifiers", "train-classifier.classifiers"),
        ("evaluate-classifier", "test", "prepare-dataset.test"),
    ],
)
def test_a_stage_gets_its_artifact_from(document: dict[str, Any], task: str, name: str, source: str) -> None:
    assert inputs(document["root"]["dag"], task).get(name) == source


def test_everything_begins_with_the_plan_and_the_report_ends_after_all(document: dict[str, Any]) -> None:
    dag = document["root"]["dag"]
    assert all("plan" in upstream(dag, task) for task in set(dag["tasks"]) - {"plan"})
    assert upstream(dag, "report") == set(dag["tasks"]) - {"report"}


def test_pretraining_does_not_wait_for_the_dataset(document: dict[str, Any]) -> None:
    for stage in ("pretrain-t2a", "pretrain-clap", "pretrain-classifier"):
        assert not {"prepare-dataset", "caption-clips"} & upstream(document["root"]["dag"], stage), stage


def test_each_of_three_rounds_revises_generates_and_filters_and_follows_the_one_before(
    document: dict[str, Any],
) -> None:
    dag = document["root"]["dag"]
    rounds = ["self-reflection-round", "self-reflection-round-2", "self-reflection-round-3"]
    for number, name in enumerate(rounds):
        body = document["components"][dag["tasks"][name]["componentRef"]["name"]]["dag"]
        assert set(body["tasks"]) == {"revise-captions", "synthesize-audio", "filter-audio"}
        assert upstream(body, "filter-audio") == {"revise-captions", "synthesize-audio"}
        assert set(rounds[:number]) <= upstream(dag, name)
    assert rounds[-1] in dag["tasks"]["train-classifier"]["dependentTasks"]


def test_only_evaluation_receives_the_test_split(document: dict[str, Any]) -> None:
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


def test_compiling_elsewhere_gives_the_same_bytes_and_imports_no_model_library(
    compiled: Compiled, tmp_path: Path
) -> None:
    """In another folder, with another environment and another order of sets and dictionaries."""
    for name in ("common", "components", "pipelines", "docker", "models"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.txt", tmp_path)
    code = """
import sys
from pathlib import Path
from pipelines.dags.compile import compile_pipeline
compile_pipeline(Path("synthio.yaml"), "one-gpu")
compile_pipeline(Path("benchmark.yaml"), pipeline="benchmark")
loaded = {"torch", "transformers", "diffusers"} & set(sys.modules)
assert not loaded, loaded
"""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    environment |= {"SYNTHIO_STORE": "s3://other/place", "HF_HOME": "/elsewhere", "KFP_HOST": "http://other"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "synthio.yaml").read_bytes() == compiled.path(profile="one-gpu").read_bytes()
    assert (tmp_path / "benchmark.yaml").read_bytes() == compiled.path("benchmark").read_bytes()


def test_the_compiled_file_is_a_valid_pipeline_spec(document: dict[str, Any]) -> None:
    json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())


def test_every_cached_stage_carries_its_code_version(document: dict[str, Any]) -> None:
    for name, part in document["components"].items():
        if "executorLabel" in part:
            assert "code_version" in part["inputDefinitions"]["parameters"], name


def test_the_ui_offers_the_presets_as_a_list(document: dict[str, Any]) -> None:
    assert set(document["root"]["inputDefinitions"]["parameters"]["preset"]["literals"]) == set(preset_names())


def test_the_ui_describes_every_parameter(document: dict[str, Any]) -> None:
    parameters = document["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) == {
        *("dataset", "preset", "n", "methods", "seeds", "reuse_t2a_from", "llm_endpoint", "budget"),
        *("overrides", "data_version"),
    }
    assert all(len(value.get("description", "")) > 10 and value["isOptional"] for value in parameters.values())


def test_every_task_has_a_name_in_plain_words_of_its_own(document: dict[str, Any]) -> None:
    dags = [document["root"]["dag"], *(part["dag"] for part in document["components"].values() if "dag" in part)]
    for dag in dags:
        names = [task["taskInfo"]["name"] for task in dag["tasks"].values()]
        assert len(set(names)) == len(names)
        assert all(name[0].isupper() and "_" not in name for name in names), names


def test_the_page_of_a_run_shows_verdict_figures_confusion_and_report(document: dict[str, Any]) -> None:
    outputs = document["components"]["comp-report"]["outputDefinitions"]["artifacts"]
    shown = {name: value["artifactType"]["schemaTitle"] for name, value in outputs.items()}
    assert shown == {
        "results": "system.Dataset",
        "html": "system.HTML",
        "markdown": "system.Markdown",
        "confusion": "system.ClassificationMetrics",
        "metrics": "system.Metrics",
    }
