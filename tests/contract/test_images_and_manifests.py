"""Images and manifests: every image named is a Dockerfile target, every overlay renders."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pipelines.compile import compile_pipeline
from pipelines.placement import image, load_profile

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.MULTILINE))
OVERLAYS = sorted(path.parent for path in (ROOT / "manifests" / "overlays").glob("*/kustomization.yaml"))


def test_every_image_named_is_a_dockerfile_target(tmp_path: Path) -> None:
    document = next(yaml.safe_load_all(compile_pipeline(tmp_path / "p.yaml").read_text(encoding="utf-8")))
    executors = document["deploymentSpec"]["executors"].values()
    for name in {executor["container"]["image"] for executor in executors}:
        assert name in {image(target) for target in TARGETS}, name


def test_no_image_has_an_entry_point() -> None:
    assert not re.search(r"^(ENTRYPOINT|CMD)", DOCKERFILE, flags=re.MULTILINE)


def test_every_stage_image_runs_as_an_unprivileged_user() -> None:
    for stage in (path.parent.name.replace("_", "-") for path in (ROOT / "components").glob("*/component.py")):
        part = DOCKERFILE.split(f" AS {stage}\n")[1].split("\nFROM ")[0]
        assert "USER 10001:10001" in part, stage


needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


@functools.cache
def rendered(overlay: Path) -> list[dict[str, Any]]:
    done = subprocess.run(["kubectl", "kustomize", str(overlay)], check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(done.stdout))


def workloads(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [document["spec"]["template"]["spec"] for document in documents if document["kind"] == "Deployment"]


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_every_overlay_renders_to_what_the_schemas_of_kubernetes_allow(overlay: Path) -> None:
    documents = rendered(overlay)
    assert {document["kind"] for document in documents} >= {"Namespace", "ConfigMap", "NetworkPolicy", "Role"}
    for document in documents:
        kubernetes_validate.validate(document, "1.37", strict=True)


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_every_workload_meets_the_restricted_pod_security_standard(overlay: Path) -> None:
    for pod in workloads(rendered(overlay)):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
        kinds = {next(key for key in volume if key != "name") for volume in pod["volumes"]}
        assert kinds <= {"emptyDir", "persistentVolumeClaim", "configMap", "secret", "projected"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"requests", "limits"} <= set(container["resources"]) and "readinessProbe" in container


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_overlays_name_secrets_and_hold_none(overlay: Path) -> None:
    documents = rendered(overlay)
    assert not [document for document in documents if document["kind"] == "Secret"]
    examples = {path.name.split(".")[0] for path in (ROOT / "manifests" / "secrets").glob("*.yaml.example")}
    text = "\n".join(yaml.safe_dump(document) for document in documents).replace("\\n", "\n")
    named = set(re.findall(r"secretName: ([\w-]+)", text))
    for pod in workloads(documents):
        named |= {
            env["valueFrom"]["secretKeyRef"]["name"]
            for c in pod["containers"]
            for env in c["env"]
            if "valueFrom" in env
        }
    assert named and named <= examples


def test_the_names_in_the_profiles_are_those_of_the_manifests() -> None:
    profile = load_profile("one-gpu")
    settings = yaml.safe_load((ROOT / "manifests" / "base" / "settings.yaml").read_text(encoding="utf-8"))
    claim = yaml.safe_load((ROOT / "manifests" / "base" / "model-cache.yaml").read_text(encoding="utf-8"))
    assert settings["metadata"]["name"] == profile.settings_config_map
    assert claim["metadata"]["name"] == profile.model_cache_claim
    examples = {path.name.split(".")[0] for path in (ROOT / "manifests" / "secrets").glob("*.yaml.example")}
    assert examples == {profile.store_secret, profile.llm_secret, profile.hub_secret}
