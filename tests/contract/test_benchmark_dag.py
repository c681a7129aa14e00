"""The compiled benchmark: one loop over cells, its body the synthio pipeline, the report after it in any case."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from tests.kit.once import Compiled


@pytest.fixture(scope="module")
def spec(compiled: Compiled) -> dict[str, Any]:
    found: dict[str, Any] = compiled.documents("benchmark")[0]
    return found


def tasks_of(spec: dict[str, Any], name: str) -> dict[str, Any]:
    """The tasks in the component that a task of the spec stands for, wherever it stands."""
    for part in (spec["root"], *spec["components"].values()):
        task = part.get("dag", {}).get("tasks", {}).get(name)
        if task:
            return dict(spec["components"][task["componentRef"]["name"]]["dag"]["tasks"])
    raise KeyError(name)


def test_a_cell_is_the_pipeline_of_a_run_and_is_then_recorded(spec: dict[str, Any], compiled: Compiled) -> None:
    loop = tasks_of(spec, "for-loop-1")
    assert set(loop) == {"synthio", "record-cell"} and loop["record-cell"]["dependentTasks"] == ["synthio"]
    assert set(tasks_of(spec, "synthio")) == set(compiled.documents()[0]["root"]["dag"]["tasks"])


def test_a_night_is_recorded_after_the_studys_report_and_judged_last(spec: dict[str, Any]) -> None:
    assert set(tasks_of(spec, "study-end")) == {"report-study", "condition-1"}
    assert tasks_of(spec, "study-end")["condition-1"]["dependentTasks"] == ["report-study"]
    assert set(tasks_of(spec, "condition-1")) == {"record-night"}
    root = spec["root"]["dag"]["tasks"]
    assert {name: task.get("dependentTasks") for name, task in root.items()} == {
        "plan-study": None, "study": ["plan-study"], "judge-study": ["study"]
    }  # fmt: skip


def test_there_is_one_loop_and_its_parameters_are_few(spec: dict[str, Any]) -> None:
    parts = [spec["root"], *spec["components"].values()]
    loops = [
        task for part in parts for task in part.get("dag", {}).get("tasks", {}).values() if "parameterIterator" in task
    ]
    assert len(loops) == 1 and loops[0]["iteratorPolicy"] == {"parallelismLimit": 1}
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) == {"cells", "preset", "methods", "seeds", "overrides", "budget", "history"}


def test_the_report_runs_also_when_a_cell_failed(spec: dict[str, Any]) -> None:
    end = tasks_of(spec, "study")["study-end"]
    assert end["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert end["dependentTasks"] == ["study-cells"]


def test_the_file_is_a_valid_pipeline_spec_with_a_profile_of_a_cluster(compiled: Compiled) -> None:
    document, platform = compiled.documents("benchmark", "one-gpu")
    json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())
    assert "exec-pretrain-t2a" in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
