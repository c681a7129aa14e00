"""Every compiled file keeps the rules of KFP's backend that neither its compiler nor its local runner holds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.kit.backend import dags, is_exit, violations
from tests.kit.once import COMMON, Compiled, Job

Breaks = Callable[[dict[str, Any], dict[str, Any]], None]


@pytest.mark.parametrize("job", COMMON, ids=lambda job: job.file)
def test_the_backend_takes_every_compiled_file(job: Job, compiled: Compiled) -> None:
    assert violations(compiled.documents(*job)) == []


def test_a_study_has_one_exit_task_and_the_run_is_judged_after_it(compiled: Compiled) -> None:
    spec = compiled.documents("benchmark", "one-gpu")[0]
    exits = [(name, task) for name, dag in dags(spec).items() for task, body in dag["tasks"].items() if is_exit(body)]
    assert exits == [("comp-study", "study-end")]
    root = spec["root"]["dag"]["tasks"]
    assert [name for name in root if "study" in root[name].get("dependentTasks", [])] == ["judge-study"]


def task(spec: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = beside(spec, name)[name]
    return found


def beside(spec: dict[str, Any], name: str) -> dict[str, Any]:
    """The tasks of the DAG that holds `name`."""
    return next(dag["tasks"] for dag in dags(spec).values() if name in dag["tasks"])


EXIT = {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}


def depend_on_the_exit(spec: dict[str, Any], _: dict[str, Any]) -> None:
    beside(spec, "study-end")["later"] = {**task(spec, "record-cell"), "dependentTasks": ["study-end"], "inputs": {}}


def read_the_exit(spec: dict[str, Any], _: dict[str, Any]) -> None:
    source = {"taskOutputArtifact": {"producerTask": "study-end", "outputArtifactKey": "study"}}
    inputs = {"artifacts": {"study": source}}
    beside(spec, "study-end")["later"] = {**task(spec, "record-cell"), "dependentTasks": [], "inputs": inputs}


def chain_exits(spec: dict[str, Any], _: dict[str, Any]) -> None:
    beside(spec, "study-end")["later"] = {**task(spec, "study-end"), "dependentTasks": ["study-end"]}


def add_a_second_exit(spec: dict[str, Any], _: dict[str, Any]) -> None:
    beside(spec, "study-end")["later"] = copy.deepcopy(task(spec, "study-end"))


def depend_beside_the_exit(spec: dict[str, Any], _: dict[str, Any]) -> None:
    beside(spec, "study-end")["later"] = {**task(spec, "record-cell"), "dependentTasks": ["study-cells"], "inputs": {}}


def exit_of_two(spec: dict[str, Any], _: dict[str, Any]) -> None:
    beside(spec, "study-end")["second"] = {**task(spec, "record-cell"), "dependentTasks": [], "inputs": {}}
    task(spec, "study-end")["dependentTasks"] = ["study-cells", "second"]


def exit_of_a_loop(spec: dict[str, Any], _: dict[str, Any]) -> None:
    later = {**task(spec, "record-cell"), "dependentTasks": ["for-loop-1"], "inputs": {}, "triggerPolicy": EXIT}
    beside(spec, "for-loop-1")["later"] = later


def return_the_exit(spec: dict[str, Any], _: dict[str, Any]) -> None:
    selector = {"producerSubtask": "study-end", "outputArtifactKey": "study"}
    spec["components"]["comp-study"]["dag"]["outputs"] = {"artifacts": {"study": {"artifactSelectors": [selector]}}}


def depend_on_nothing(spec: dict[str, Any], _: dict[str, Any]) -> None:
    task(spec, "judge-study")["dependentTasks"] = ["studies"]


def give_one_artifact_twice(spec: dict[str, Any], _: dict[str, Any]) -> None:
    artifacts = task(spec, "self-reflection-round")["inputs"]["artifacts"]
    artifacts["rejected"] = artifacts["accepted"]


def free_text_in_a_condition(spec: dict[str, Any], _: dict[str, Any]) -> None:
    task(spec, "condition-1")["triggerPolicy"]["condition"] = "inputs.parameter_values['a'] == 'it\\'s'"


def a_fraction_as_factor(spec: dict[str, Any], _: dict[str, Any]) -> None:
    task(spec, "align-t2a")["retryPolicy"]["backoffFactor"] = 1.5


def a_name_of_kfp(spec: dict[str, Any], _: dict[str, Any]) -> None:
    beside(spec, "plan-study")["plan-study-driver"] = copy.deepcopy(task(spec, "plan-study"))


def a_long_name(spec: dict[str, Any], _: dict[str, Any]) -> None:
    beside(spec, "plan-study")["p" * 60] = copy.deepcopy(task(spec, "plan-study"))


def a_pipeline_of_another_name(spec: dict[str, Any], _: dict[str, Any]) -> None:
    spec["pipelineInfo"]["name"] = "Synthio benchmark"


def an_importer(spec: dict[str, Any], _: dict[str, Any]) -> None:
    executor = spec["deploymentSpec"]["executors"]["exec-align-t2a"]
    executor["resolver"] = executor.pop("container")


def a_large_component(spec: dict[str, Any], _: dict[str, Any]) -> None:
    spec["components"]["comp-align-t2a"]["inputDefinitions"]["parameters"]["config"]["description"] = "x" * 70000


def a_macro(spec: dict[str, Any], _: dict[str, Any]) -> None:
    task(spec, "plan-study")["inputs"]["parameters"]["preset"] = {"runtimeValue": {"constant": "{{workflow.name}}"}}


def pod(platform: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-align-t2a"]
    return found


def a_variable_twice(_: dict[str, Any], platform: dict[str, Any]) -> None:
    pod(platform)["secretAsEnv"][0]["keyToEnv"][0]["envVar"] = "HF_HOME"


def a_folder_of_the_launcher(_: dict[str, Any], platform: dict[str, Any]) -> None:
    pod(platform)["emptyDirMounts"][0]["mountPath"] = "/s3"


def a_label_with_a_blank(_: dict[str, Any], platform: dict[str, Any]) -> None:
    pod(platform)["podMetadata"]["labels"]["queue"] = "my queue"


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (depend_on_the_exit, "later depends on the exit task study-end"),
        (read_the_exit, "later depends on the exit task study-end"),
        (chain_exits, "later depends on the exit task study-end"),
        (add_a_second_exit, "study-cells has 2 exit tasks"),
        (depend_beside_the_exit, "later depends on it too"),
        (exit_of_two, "once for each of 2 tasks"),
        (exit_of_a_loop, "loops get no hook"),
        (return_the_exit, "is of an exit task"),
        (depend_on_nothing, "studies, which is not there"),
        (give_one_artifact_twice, "one artifact under 2 names"),
        (free_text_in_a_condition, "free text in a condition"),
        (a_fraction_as_factor, "whole numbers"),
        (a_name_of_kfp, "a node of KFP's own"),
        (a_long_name, "is no name of a task"),
        (a_pipeline_of_another_name, "is no name of a pipeline"),
        (an_importer, "does not run"),
        (a_large_component, "too many for an argument"),
        (a_macro, "is a macro"),
        (a_variable_twice, "HF_HOME stands 2 times"),
        (a_folder_of_the_launcher, "/s3 is mounted by the launcher"),
        (a_label_with_a_blank, "is no label"),
    ],
)
def test_a_rule_that_is_broken_is_told(broken: Breaks, told: str, compiled: Compiled) -> None:
    documents = copy.deepcopy(compiled.documents("benchmark", "one-gpu"))
    broken(*documents)
    assert any(told in text for text in violations(documents)), violations(documents)
