"""The version of KFP that is asked for is the one from which on its API takes every field of the compiled files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from google.protobuf.message import Message
from kfp import compiler, dsl
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from pipelines.cluster.api import MINIMUM
from pipelines.cluster.placement import load_profile, place
from tests.kit.once import Compiled, documents

ROOT = Path(__file__).resolve().parents[2]
SINCE = {
    # An older API refuses the whole file: it reads the specification strictly.
    "ParameterSpec.literals": (2, 16),
    # An older API drops these in silence.
    "KubernetesExecutorConfig.security_context": (2, 16),
    "SecurityContext.run_as_user": (2, 16),
    "SecurityContext.run_as_group": (2, 16),
    "SecurityContext.run_as_non_root": (2, 16),
    "SecretAsEnv.optional": (2, 15),
    "ConfigMapAsEnv.optional": (2, 15),
}
"""Field of a message, and the version of KFP whose API and driver know it first."""
BEFORE = """
AcceleratorConfig: count resource_count resource_type type
ArtifactSelectorSpec: output_artifact_key producer_subtask
ArtifactSpec: artifact_type description is_optional
ArtifactTypeSchema: schema_title schema_version
CachingOptions: enable_cache
ComponentInputsSpec: artifacts parameters
ComponentOutputsSpec: artifacts parameters
ComponentRef: name
ComponentSpec: dag executor_label input_definitions output_definitions
ConfigMapAsEnv: config_map_name config_map_name_parameter key_to_env
ConfigMapKeyToEnvMap: config_map_key env_var
DagOutputArtifactSpec: artifact_selectors
DagOutputsSpec: artifacts
DagSpec: outputs tasks
EmptyDirMount: medium mount_path size_limit volume_name
EnvVar: name value
ExecutorSpec: container
ImagePullSecret: secret_name secret_name_parameter
InputArtifactSpec: component_input_artifact task_output_artifact
InputParameterSpec: component_input_parameter parameter_expression_selector runtime_value task_output_parameter
ItemsSpec: input_parameter
IteratorPolicy: parallelism_limit
KubernetesExecutorConfig: active_deadline_seconds config_map_as_env empty_dir_mounts image_pull_policy
  image_pull_secret node_selector pod_metadata pvc_mount secret_as_env tolerations
NodeSelector: labels
ParameterIteratorSpec: item_input items
ParameterSpec: default_value description is_optional parameter_type
PipelineContainerSpec: args command env image resources
PipelineDeploymentConfig: executors
PipelineInfo: description name
PipelineSpec: components deployment_spec pipeline_info root schema_version sdk_version
PipelineTaskInfo: name
PipelineTaskSpec: caching_options component_ref dependent_tasks inputs iterator_policy parameter_iterator
  retry_policy task_info trigger_policy
PodMetadata: labels
PvcMount: constant mount_path pvc_name_parameter
ResourceSpec: accelerator cpu_limit cpu_request memory_limit memory_request resource_cpu_limit resource_cpu_request
  resource_memory_limit resource_memory_request
RetryPolicy: backoff_duration backoff_factor backoff_max_duration max_retry_count
SecretAsEnv: key_to_env secret_name secret_name_parameter
SecretKeyToEnvMap: env_var secret_key
TaskInputsSpec: artifacts parameters
TaskOutputArtifactSpec: output_artifact_key producer_task
TaskOutputParameterSpec: output_parameter_key producer_task
Toleration: effect key operator value
TriggerPolicy: condition strategy
ValueOrRuntimeParameter: constant
"""
"""Fields that 2.14 knows already."""
KNOWN = {
    f"{message}.{field}"
    for message, fields in re.findall(r"^(\w+): ((?:.|\n  )+)", BEFORE, flags=re.MULTILINE)
    for field in fields.split()
}


def fields_of(message: Message) -> Iterator[str]:
    """Fields that are set, as `Message.field`, to the bottom; what a user puts into a Struct is not KFP's."""
    for field, value in message.ListFields():
        yield f"{message.DESCRIPTOR.name}.{field.name}"
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            kind, value = kind.fields_by_name["value"].message_type, list(value.values())
        if kind is None or kind.full_name.startswith("google.protobuf."):
            continue
        for part in [value] if isinstance(value, Message) else value:
            yield from fields_of(part)


def fields_of_file(specification: dict[str, Any], platforms: dict[str, Any]) -> set[str]:
    deployment = json_format.ParseDict(specification["deploymentSpec"], pipeline_spec_pb2.PipelineDeploymentConfig())
    found = {*fields_of(json_format.ParseDict(specification, pipeline_spec_pb2.PipelineSpec())), *fields_of(deployment)}
    for executor in platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        config = json_format.ParseDict(executor, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
        found |= set(fields_of(config))
    return found


@pytest.fixture(scope="module")
def used(compiled: Compiled, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Of both pipelines, and of a task with all that a profile can say."""
    wanted = {
        "gpu_type": "example.com/gpu",
        "priority_class": "urgent",
        "queue": "sounds",
        "image_pull_secrets": ("one",),
        "node_selector": {"zone": "a"},
        "tolerations": [{"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"}],
    }
    profile = load_profile("eight-gpus").model_validate({**load_profile("eight-gpus").model_dump(), **wanted})

    @dsl.component(base_image="python", install_kfp_package=False)
    def toy():
        pass

    @dsl.pipeline(name="toy")
    def pipeline():
        place(toy(), "augment_captions", profile)

    file = tmp_path_factory.mktemp("toy") / "toy.yaml"
    compiler.Compiler().compile(pipeline, str(file))
    files = [compiled.path(profile="spot"), compiled.path("benchmark", "one-gpu"), file]
    return set().union(*(fields_of_file(*documents(path)) for path in files))


def test_since_when_kfp_knows_each_field_was_looked_up(used: set[str]) -> None:
    assert used - KNOWN - set(SINCE) == set(), "look up the first version of KFP whose API knows them"
    assert set(SINCE) <= used, "no longer used: the minimum may be lower"


def test_the_minimum_is_the_newest_of_what_the_fields_need(used: set[str]) -> None:
    assert max(SINCE[field] for field in used & set(SINCE)) == MINIMUM


def test_the_minimum_is_stated_once() -> None:
    """Other texts refer to it; a table of what differs between versions states no minimum."""
    text = (ROOT / "docs" / "OPERATIONS.md").read_text(encoding="utf-8")
    stated = ".".join(map(str, MINIMUM))
    places = [
        (path.relative_to(ROOT).as_posix(), version)
        for pattern in ("README.md", "CONTRIBUTING.md", "docs/*.md", "manifests/**/*", "pipelines/**/*.py", "Makefile")
        for path in ROOT.glob(pattern)
        if path.is_file()
        for version in re.findall(
            r"(?:KFP|Pipelines) (2\.\d+)(?:\.\d+)? (?:or later|or newer|and later|at least)",
            path.read_text(encoding="utf-8"),
        )
    ]
    assert places == [("docs/OPERATIONS.md", stated)]
    assert f"Kubeflow Pipelines {stated} or later" in text


def test_the_client_is_of_a_version_that_is_taken() -> None:
    pins = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
    for package in ("kfp", "kfp-kubernetes"):
        major, minor = re.search(rf"^{package}==(\d+)\.(\d+)", pins, flags=re.MULTILINE).groups()  # type: ignore[union-attr]
        assert (int(major), int(minor)) >= MINIMUM


def test_kubernetes_is_named_alike_wherever_the_admission_policy_needs_it() -> None:
    component = (ROOT / "manifests" / "components" / "hardening" / "kustomization.yaml").read_text(encoding="utf-8")
    operations = (ROOT / "docs" / "OPERATIONS.md").read_text(encoding="utf-8")
    needed = set(re.findall(r"from (1\.\d+)\s", component))
    assert len(needed) == 1
    named = re.findall(
        r"policy Kubernetes (1\.\d+)|components/hardening` needs (1\.\d+)|Kubernetes before (1\.\d+)", operations
    )
    assert len(named) == 3 and {version for match in named for version in match if version} == needed
    versions = {
        document["apiVersion"]
        for document in yaml.safe_load_all((ROOT / "manifests/components/hardening/policy.yaml").read_text())
    }
    assert versions == {"admissionregistration.k8s.io/v1"}
