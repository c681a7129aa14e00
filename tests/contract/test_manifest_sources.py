"""Manifests as they are written, without kubectl: API versions that clusters serve, names, and what runs in a profile."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.cluster.api import AUDIENCE, SUBMITTER
from pipelines.cluster.placement import PART_OF, PRIORITY_LABEL

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "manifests").rglob("*.yaml"))
OBJECTS: list[tuple[str, dict[str, Any]]] = [
    (path.relative_to(ROOT).as_posix(), document)
    for path in FILES
    for document in yaml.load_all(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    if "apiVersion" in document  # else a patch
]
SERVED = {
    "kustomize.config.k8s.io/v1beta1": "read by kustomize, never sent",
    "kustomize.config.k8s.io/v1alpha1": "read by kustomize, never sent",
    "kueue.x-k8s.io/v1beta2": "of Kueue's own definitions, which serve it from 0.15 on",
}
"""Versions before v1 that clusters serve; those of Kubernetes itself are off unless an administrator switches them on."""


@pytest.mark.parametrize("version", sorted({document["apiVersion"] for _, document in OBJECTS}))
def test_every_api_version_is_one_that_a_stock_cluster_serves(version: str) -> None:
    assert version in SERVED or not re.search("alpha|beta", version)


def test_no_manifest_names_a_version_in_another_way() -> None:
    """Patches too, which are text within text."""
    for path in FILES:
        for version in re.findall(r"apiVersion: *[\"']?([\w./-]+)", path.read_text(encoding="utf-8")):
            assert version in SERVED or not re.search("alpha|beta", version), path


def test_no_manifest_makes_labels_or_patches_a_namespace() -> None:
    for path in FILES:
        assert not re.search(r"kind: *Namespace\b", path.read_text(encoding="utf-8")), path


def test_a_base_and_its_components_leave_the_namespace_to_the_overlay() -> None:
    namespaced = {
        path for path, document in OBJECTS if "namespace" in document or "namespace" in document.get("metadata", {})
    }
    assert {path.split("/")[1] for path in namespaced} == {"overlays", "components"}
    assert {path for path in namespaced if "/components/" in path} == {"manifests/components/queue/queue.yaml"}


def test_what_other_pods_reach_has_no_sidecar_that_would_refuse_them() -> None:
    workloads = [document for _, document in OBJECTS if document["kind"] == "Deployment"]
    services = [document for _, document in OBJECTS if document["kind"] == "Service"]
    assert len(workloads) == len(services) == 3
    for document in workloads:
        assert document["spec"]["template"]["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"


def test_an_address_that_the_ui_of_kfp_reads_names_its_namespace() -> None:
    for path, document in OBJECTS:
        if document["kind"] == "ConfigMap":
            for host in re.findall(r"(synthio-[\w.-]+):\d", yaml.safe_dump(document)):
                assert re.fullmatch(r"synthio-\w+\.synthio\.svc", host), (path, host)


def test_the_priority_class_takes_the_place_of_the_priority_that_kubernetes_gave() -> None:
    (policy,) = [document["spec"] for _, document in OBJECTS if document["kind"] == "MutatingAdmissionPolicy"]
    (expression,) = [
        text
        for text in (change.get("jsonPatch", {}).get("expression", "") for change in policy["mutations"])
        if PRIORITY_LABEL in text
    ]
    changes = re.findall(r'JSONPatch\{op: "(\w+)", path: "/spec/(\w+)"', expression)
    assert changes == [("add", "priorityClassName"), ("remove", "priority"), ("remove", "preemptionPolicy")]
    for name in ("priority", "preemptionPolicy", "priorityClassName"):  # absent fields cannot be removed or compared
        assert f"has(object.spec.{name})" in expression
    # Once is enough: the policy is asked again after others have changed the pod.
    assert f'object.spec.priorityClassName != object.metadata.labels["{PRIORITY_LABEL}"]' in expression
    assert policy["reinvocationPolicy"] == "IfNeeded"


def test_the_policy_is_bound_in_every_namespace_to_this_pipeline_s_pods_only() -> None:
    (policy,) = [document for _, document in OBJECTS if document["kind"] == "MutatingAdmissionPolicy"]
    (binding,) = [document for _, document in OBJECTS if document["kind"] == "MutatingAdmissionPolicyBinding"]
    assert binding["spec"] == {"policyName": policy["metadata"]["name"]}
    ((key, value),) = PART_OF.items()
    (condition,) = policy["spec"]["matchConditions"]
    assert f'object.metadata.labels["{key}"] == "{value}"' in condition["expression"]


def test_every_token_that_someone_is_told_to_make_has_kfp_s_audience() -> None:
    texts = {
        path: path.read_text(encoding="utf-8")
        for pattern in ("*.md", "docs/*.md", "Makefile", "manifests/**/*", "pipelines/**/*.py", "common/**/*.py")
        for path in ROOT.glob(pattern)
        if path.is_file()
    }
    found = 0
    for path, text in texts.items():
        for command in re.findall(r"create token [^`)\n\"]+", text):
            assert f"--audience {AUDIENCE}" in command or "{AUDIENCE}" in command, (path, command)
            assert SUBMITTER in command or "{SUBMITTER}" in command or "…" in command, (path, command)
            found += 1
    assert found >= 4
    assert any(
        document["metadata"]["name"] == SUBMITTER for _, document in OBJECTS if document["kind"] == "ServiceAccount"
    )


def test_dns_is_open_wherever_clusters_have_it() -> None:
    (policy,) = [
        d["spec"] for _, d in OBJECTS if d["kind"] == "NetworkPolicy" and "Ingress" in d["spec"]["policyTypes"]
    ]
    rules = [rule for rule in policy["egress"] if {port["port"] for port in rule.get("ports", [])} & {53, 5353}]
    peers = yaml.safe_dump([rule["to"] for rule in rules])
    assert all(place in peers for place in ("kube-system", "openshift-dns", "169.254.20.10/32"))
    for rule in rules:
        assert {port["protocol"] for port in rule["ports"]} == {"UDP", "TCP"}
