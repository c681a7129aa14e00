"""Rules of KFP's backend, Argo and Kubernetes that kfp's compiler and local runner do not hold.

Read in kubeflow/pipelines 2.17 (backend/src/v2/compiler/argocompiler) and argo-workflows 3.7 and 4.0 (validate,
controller/dag.go). Each rule yields one sentence per violation in a compiled file.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

ARGUMENT_BYTES = 128 * 1024
"""Limit of Linux for one argument (MAX_ARG_STRLEN); driver and launcher get whole specifications as arguments."""
FILE_BYTES = 32 * 1024**2
NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
LABEL = re.compile(r"([A-Za-z0-9]([\w.-]*[A-Za-z0-9])?)?")
KEPT_BY_LAUNCHER = {"/s3", "/minio", "/gcs", "/.cache", "/.local", "/.config", "/kfp-launcher"}
Spec = dict[str, Any]


def violations(documents: list[Spec]) -> list[str]:
    """What the backend would refuse, or not do, of a compiled pipeline; empty = nothing known.

    Args:
        documents: the specification, and on a cluster the platform's part.
    """
    spec = documents[0]
    found = [*_names(spec), *_sizes(documents), *_macros(spec)]
    for name, dag in dags(spec).items():
        found += [f"{name}: {text}" for rule in (_edges, _exits, _tasks, _inputs) for text in rule(spec, dag["tasks"])]
        found += [f"{name}: {text}" for text in _outputs(dag)]
    if len(documents) > 1:
        found += _pods(spec, documents[1])
    return found


def dags(spec: Spec) -> dict[str, Spec]:
    """Every DAG of a specification by the name of its component."""
    parts = {"root": spec["root"], **spec["components"]}
    return {name: part["dag"] for name, part in parts.items() if "dag" in part}


def is_exit(task: Spec) -> bool:
    """Whether the backend makes the task a hook of the one before it."""
    return bool(task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED")


def predecessors(task: Spec) -> set[str]:
    """Tasks that a task waits for, by name or since they make its inputs."""
    found = set(task.get("dependentTasks", []))
    for kind, key in (("parameters", "taskOutputParameter"), ("artifacts", "taskOutputArtifact")):
        for source in task.get("inputs", {}).get(kind, {}).values():
            if key in source:
                found.add(source[key]["producerTask"])
    return found


def _edges(spec: Spec, tasks: Spec) -> Iterator[str]:
    exits = {name for name, task in tasks.items() if is_exit(task)}
    if exits == set(tasks):
        yield "has exit tasks only"
    for name, task in tasks.items():
        for before in sorted(predecessors(task)):
            if before not in tasks:
                yield f"{name} depends on {before}, which is not there"
            elif before in exits:
                yield f"{name} depends on the exit task {before}"


def _exits(spec: Spec, tasks: Spec) -> Iterator[str]:
    watched: Counter[str] = Counter()
    for name, task in tasks.items():
        if not is_exit(task):
            continue
        before = predecessors(task)
        watched.update(before)
        if len(before) != 1:
            yield f"the exit task {name} runs once for each of {len(before)} tasks"
        if "condition" in task["triggerPolicy"]:
            yield f"the condition of the exit task {name} is not read"
        for one in before & set(tasks):
            if "parameterIterator" in tasks[one]:
                yield f"the exit task {name} never runs: loops get no hook"
            if "condition" in tasks[one].get("triggerPolicy", {}):
                yield f"the exit task {name} is of the conditional task {one}"
            for other in tasks:
                if other != name and not is_exit(tasks[other]) and one in predecessors(tasks[other]):
                    yield f"the hook of {one} may be lost: {other} depends on it too"
    for one, count in watched.items():
        if count > 1:
            yield f"{one} has {count} exit tasks and runs one of them"


def _tasks(spec: Spec, tasks: Spec) -> Iterator[str]:
    for name, task in tasks.items():
        if not NAME.fullmatch(name) or len(f"{name}-driver") > 63:
            yield f"{name} is no name of a task"
        if f"{name}-driver" in tasks or name in ("iteration", "iteration-item", "executor"):
            yield f"{name} has the name of a node of KFP's own"
        part = spec["components"].get(task["componentRef"]["name"])
        if part is None:
            yield f"{name} has no component"
            continue
        executor = spec["deploymentSpec"]["executors"].get(part.get("executorLabel"), {})
        if "artifactIterator" in task or not ("dag" in part or "container" in executor):
            yield f"{name} is of a kind that the open-source backend does not run"
        condition = task.get("triggerPolicy", {}).get("condition", "")
        if condition and not re.fullmatch(r"inputs\.parameter_values\['[\w-]+'\] [!=]= '[\w-]*'", condition):
            yield f"{name}: free text in a condition: {condition}"
        retry = task.get("retryPolicy")
        if retry and not float(retry["backoffFactor"]).is_integer():
            yield f"{name}: Argo takes whole numbers as factor of the pauses, not {retry['backoffFactor']}"


def _inputs(spec: Spec, tasks: Spec) -> Iterator[str]:
    for name, task in tasks.items():
        part = spec["components"].get(task["componentRef"]["name"], {})
        if "dag" not in part:
            continue
        artifacts = task.get("inputs", {}).get("artifacts", {}).values()
        for source, count in Counter(json.dumps(source, sort_keys=True) for source in artifacts).items():
            if count > 1:
                yield f"{name} gets one artifact under {count} names, of which the backend keeps one: {source}"


def _outputs(dag: Spec) -> Iterator[str]:
    for label, output in dag.get("outputs", {}).get("artifacts", {}).items():
        selected = output["artifactSelectors"]
        if len(selected) != 1:
            yield f"the output {label} has {len(selected)} makers"
        for one in selected:
            if is_exit(dag["tasks"][one["producerSubtask"]]):
                yield f"the output {label} is of an exit task"


def _names(spec: Spec) -> Iterator[str]:
    pipeline = spec["pipelineInfo"]["name"]
    if not NAME.fullmatch(pipeline) or len(pipeline) > 52:
        yield f"{pipeline} is no name of a pipeline: Argo adds to it for names of pods, of 63 characters"
    for name in spec["components"]:
        if len(f"exit-hook-{name}-{name}-iterator") > 128:
            yield f"{name} is too long for the names of Argo's templates"


def _sizes(documents: list[Spec]) -> Iterator[str]:
    spec = documents[0]
    parts = {"root": spec["root"], **spec["components"]}
    parts |= {f"{name}.{task}": tasks for name, dag in dags(spec).items() for task, tasks in dag["tasks"].items()}
    parts |= spec["deploymentSpec"]["executors"]
    for document in documents[1:]:
        executors = document["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        parts |= {f"platform of {name}": value for name, value in executors.items()}
    for name, part in parts.items():
        if len(json.dumps(part)) > ARGUMENT_BYTES // 2:  # the other half is for the values of a run
            yield f"{name} has {len(json.dumps(part))} bytes, too many for an argument"
    if len(json.dumps(documents)) > FILE_BYTES:
        yield "the file is too large to be uploaded"


def _macros(spec: Spec) -> Iterator[str]:
    for text in re.findall(r"\{\{(?!\$)[^}]*\}?|\[\[(?:RunUUID|ScheduledTime|CurrentTime|Index)", json.dumps(spec)):
        yield f"{text} is a macro"


def _pods(spec: Spec, platform: Spec) -> Iterator[str]:
    configs = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for name, config in configs.items():
        container = spec["deploymentSpec"]["executors"][name].get("container", {})
        variables = [pair["name"] for pair in container.get("env", [])]
        for source in (*config.get("secretAsEnv", []), *config.get("configMapAsEnv", [])):
            variables += [pair["envVar"] for pair in source["keyToEnv"]]
        mounts = [*config.get("emptyDirMounts", []), *config.get("pvcMount", [])]
        paths = [mount["mountPath"] for mount in mounts]
        volumes = [mount.get("volumeName") or mount["constant"] for mount in mounts]
        for kind, values in (("variable", variables), ("path", paths), ("volume", volumes)):
            for value, count in Counter(values).items():
                if count > 1:
                    yield f"{name}: the {kind} {value} stands {count} times"
        for path in set(paths) & KEPT_BY_LAUNCHER:
            yield f"{name}: {path} is mounted by the launcher"
        for volume in volumes:
            if not NAME.fullmatch(volume) or len(volume) > 63:
                yield f"{name}: {volume} is no name of a volume"
        metadata = config.get("podMetadata", {})
        for key, value in metadata.get("labels", {}).items():
            if len(value) > 63 or not LABEL.fullmatch(value) or len(key.rpartition("/")[2]) > 63:
                yield f"{name}: {key}={value} is no label"
