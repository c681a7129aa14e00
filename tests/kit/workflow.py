"""Size of the object that Argo keeps for a run, by the rules of KFP's compiler and driver and of Argo.

A run is one Workflow: its templates, each specification once, and the status of every node, which Argo compresses. Argo
marks a run as failed when the object exceeds `LIMIT` (workflow/packer/packer.go). Read in kubeflow/pipelines 2.17
(backend/src/v2/compiler/argocompiler, driver) and argo-workflows 3.7; real objects were not at hand.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

LIMIT = 1024 * 1024
Spec = dict[str, Any]


def workflow_bytes(documents: list[Spec], cells: int, configs: Mapping[str, Any], wrapped: bool = True) -> int:
    """Estimate the size of a finished run's Workflow.

    Args:
        documents: the compiled pipeline, and on a cluster the platform's part.
        cells: iterations of each loop.
        configs: settings by stage, as `plan` passes them; a task that has none gets no parameters but its constants.
        wrapped: whether Argo's defaults make a node for the attempts of each template, as in KFP 2.17.
    """
    run = _Run(documents, configs, wrapped)
    nodes = list(run.dag("root", "synthio-benchmark-x7k2p.root", cells))
    status = base64.b64encode(gzip.compress(_json({node["id"]: node for node in nodes}).encode(), 6))
    return len(_json(run.spec)) + len(status)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


class _Run:
    """Nodes of one run."""

    def __init__(self, documents: list[Spec], configs: Mapping[str, Any], wrapped: bool) -> None:
        self._pipeline, self._configs, self._wrapped = documents[0], configs, wrapped
        self._platform: Spec = {}
        if len(documents) > 1:
            self._platform = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        self._parts = {"root": self._pipeline["root"], **self._pipeline["components"]}
        self._count = 0
        executors = self._pipeline["deploymentSpec"]["executors"]
        # A task stands in its DAG's template twice: in the arguments of its driver, and as a task.
        tasks = [task for part in self._parts.values() for task in part.get("dag", {}).get("tasks", {}).values()]
        self.spec = [*map(_json, [*self._parts.values(), *executors.values(), *self._platform.values(), *tasks])]
        self.spec += [_json(_TASK)] * 2 * len(tasks)

    def dag(self, component: str, path: str, cells: int) -> Iterator[Spec]:
        for name, task in self._parts[component]["dag"]["tasks"].items():
            inner = task["componentRef"]["name"]
            if "parameterIterator" in task:
                yield from self._node(f"{path}.{name}", "DAG", {"parent-dag-id": self._number()})
                yield from self._driver(f"{path}.{name}.iteration-driver", inner, task)
                yield from self._node(f"{path}.{name}.iteration-iterations", "TaskGroup", {})
                for index in range(cells):
                    own = f"{path}.{name}.iteration-iterations({index}:{index})"
                    yield from self._node(own, "DAG", {"parent-dag-id": self._number(), "iteration-index": str(index)})
                    yield from self._group(f"{own}.iteration-item", inner, task, cells)
            elif "dag" in self._parts[inner]:
                yield from self._group(f"{path}.{name}", inner, task, cells)
            else:
                yield from self._task(f"{path}.{name}", inner, task)

    def _group(self, path: str, component: str, task: Spec, cells: int) -> Iterator[Spec]:
        yield from self._driver(f"{path}-driver", component, task)
        yield from self._node(path, "DAG", {"parent-dag-id": self._number(), "condition": ""})
        yield from self.dag(component, path, cells)

    def _driver(self, path: str, component: str, task: Spec) -> Iterator[Spec]:
        asked = {"component": _json(self._parts[component]), "task": _json(task), "parent-dag-id": self._number()}
        told = {"execution-id": self._number(), "iteration-count": "0", "condition": "true"}
        yield from self._node(path, "Pod", asked, told)

    def _task(self, path: str, component: str, task: Spec) -> Iterator[Spec]:
        label = self._parts[component]["executorLabel"]
        container = self._pipeline["deploymentSpec"]["executors"][label]["container"]
        asked = {
            "component": _json(self._parts[component]),
            "task": _json(task),
            "container": _json(container),
            "kubernetes-config": _json(self._platform.get(label, {})),
            "parent-dag-id": self._number(),
            "task-name": path.rpartition(".")[2],
        }
        patch = {"pod-spec-patch": _json(self._pod(path, component, container, label)), "cached-decision": "false"}
        yield from self._node(f"{path}-driver", "Pod", asked, {**patch, "condition": "true"})
        yield from self._node(path, "DAG", patch)
        if "retryPolicy" in task:
            yield self._one(f"{path}.executor", "Retry", patch, {})
            yield self._one(f"{path}.executor(0)", "Pod", patch, {})
        else:
            yield from self._node(f"{path}.executor", "Pod", patch)

    def _pod(self, path: str, component: str, container: Spec, label: str) -> Spec:
        """The patch that the driver writes: the launcher's command with all inputs, and the pod's settings."""
        stage = label.removeprefix("exec-").rstrip("-0123456789").replace("-", "_")
        definitions, place = self._parts[component], f"s3://bucket/v2/artifacts/synthio-benchmark/{self._hash(36)}"

        def artifacts(kind: str) -> Spec:
            return {
                name: {
                    "artifacts": [
                        {
                            "type": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"},
                            "uri": f"{place}/{path.rpartition('.')[2]}/{self._hash(36)}/{name}",
                            "metadata": {"display_name": name, "store_session_info": _SESSION},
                        }
                    ]
                }
                for name in definitions.get(kind, {}).get("artifacts", {})
            }

        values: Spec = {"code_version": "0" * 12, "config": self._configs.get(stage, {})}
        if stage == "plan":
            values = {"config": self._configs["report"]}  # the dataset and the request are part of it
        inputs = {
            "inputs": {"parameterValues": values, "artifacts": artifacts("inputDefinitions")},
            "outputs": {"artifacts": artifacts("outputDefinitions"), "outputFile": "/tmp/kfp_outputs/output.json"},
        }
        launcher = [*_LAUNCHER, self._hash(36), self._number(), _json(inputs), _json(definitions), "--"]
        main = {"name": "main", "image": container["image"], "env": container.get("env", [])}
        main |= {"command": launcher + container["command"] + container["args"], "resources": container["resources"]}
        return {"containers": [main], **self._platform.get(label, {})}

    def _node(self, path: str, kind: str, asked: Spec, told: Spec | None = None) -> Iterator[Spec]:
        if self._wrapped:
            yield self._one(path, "Retry", asked, told or {})
        yield self._one(f"{path}(0)" if self._wrapped else path, kind, asked, told or {})

    def _one(self, path: str, kind: str, asked: Spec, told: Spec) -> Spec:
        node = {"id": f"synthio-benchmark-x7k2p-{self._number()}", "name": path, "type": kind, "phase": "Succeeded"}
        node |= {"displayName": path.rpartition(".")[2], "templateName": kind, "templateScope": "local/synthio"}
        node |= {"boundaryID": f"synthio-benchmark-x7k2p-{self._number()}", "progress": "1/1"}
        node |= {"startedAt": f"2026-01-01T00:00:{self._hash(2)}Z", "finishedAt": f"2026-01-01T01:00:{self._hash(2)}Z"}
        node |= {
            "resourcesDuration": {"cpu": self._number(), "memory": self._number()},
            "children": [self._number()] * 2,
        }
        node["inputs"] = {"parameters": [{"name": name, "value": value} for name, value in asked.items()]}
        node["outputs"] = {
            "exitCode": "0",
            "parameters": [{"name": k, "value": v, "valueFrom": {"path": k}} for k, v in told.items()],
        }
        if kind == "Pod":
            log = f"private-artifacts/synthio/x7k2p/2026/01/01/synthio-benchmark-x7k2p-{self._number()}/main.log"
            node["outputs"]["artifacts"] = [{"name": "main-logs", "s3": {"key": log}}]
            node["hostNodeName"] = f"node-{self._hash(8)}"
        return node

    def _number(self) -> str:
        """A number that no other node has, as ids are."""
        return str(int(self._hash(8), 16))

    def _hash(self, length: int) -> str:
        self._count += 1
        return hashlib.sha256(str(self._count).encode()).hexdigest()[:length]


_SESSION = _json({"Provider": "s3", "Params": {"fromEnv": "false", "secretName": "synthio-s3", "region": "us-east-1"}})
_LAUNCHER = [
    *("/kfp-launcher/launch", "--pipeline_name", "synthio-benchmark", "--run_id", "--execution_id", "--executor_input"),
    *("--component_spec", "--pod_name", "$(KFP_POD_NAME)", "--pod_uid", "$(KFP_POD_UID)", "--mlmd_server_address"),
    *("metadata-grpc-service.kubeflow.svc.cluster.local", "--mlmd_server_port", "8080", "--publish_logs", "true"),
]
_TASK = {
    "name": "a-task-driver",
    "template": "system-container-driver",
    "depends": "another-task.Succeeded && one-more-task.Succeeded",
    "arguments": {
        "parameters": [
            {"name": name, "value": "{{workflow.parameters.components-" + "0" * 64 + "}}"}
            for name in ("component", "task", "container", "parent-dag-id", "kubernetes-config", "task-name")
        ]
    },
}
