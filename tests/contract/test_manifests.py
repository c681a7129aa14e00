"""Manifests: every overlay renders to valid objects that fit each other, the profiles and the compiled pipeline."""

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

from common.config.captions import ChatModelConfig, EndpointConfig
from components.catalogue import STAGES
from pipelines.cluster.placement import load_profile, profile_names
from tests.kit.once import Compiled

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
OVERLAYS = sorted(path.parent for path in MANIFESTS.glob("overlays/*/kustomization.yaml"))
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod", "ReplicaSet", "ReplicationController")
PART_OF = {"app.kubernetes.io/part-of": "synthio"}
EXAMPLES = {
    path.name.split(".")[0]: set(yaml.safe_load(path.read_text(encoding="utf-8"))["stringData"])
    for path in MANIFESTS.glob("secrets/*.yaml.example")
}
pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
each_overlay = pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
each_profile = pytest.mark.parametrize("profile", [name for name in profile_names() if load_profile(name).cluster])

Documents = list[dict[str, Any]]


@functools.cache
def rendered(overlay: Path) -> Documents:
    done = subprocess.run(["kubectl", "kustomize", str(overlay)], check=True, capture_output=True, text=True)
    return list(yaml.load_all(done.stdout, yaml.CSafeLoader))


@functools.cache
def overlay(name: str) -> Documents:
    return rendered(MANIFESTS / "overlays" / name)


def pods(documents: Documents) -> Documents:
    """Of all workloads; only deployments are looked for, so that no other kind goes unseen."""
    found = [document for document in documents if document["kind"] in WORKLOADS]
    assert {document["kind"] for document in found} <= {"Deployment"}
    return [document["spec"]["template"] for document in found]


def one(documents: Documents, kind: str, name: str) -> dict[str, Any]:
    (found,) = [item for item in documents if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    return found


def size(quantity: str | int) -> float:
    number, unit = re.fullmatch(r"(\d+)(m|Mi|Gi|Ti)?", str(quantity)).groups()  # type: ignore[union-attr]
    return int(number) * {None: 1, "m": 1e-3, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}[unit]


@pytest.fixture(scope="module")
def documents(compiled: Compiled) -> Documents:
    """The compiled pipeline, and what it asks of Kubernetes."""
    return compiled.documents(profile="one-gpu")


@pytest.fixture(scope="module")
def asked(documents: Documents) -> dict[str, Any]:
    """What the compiled pipeline asks of Kubernetes for each stage."""
    executors: dict[str, Any] = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return executors


@each_overlay
def test_every_overlay_renders_to_what_the_schemas_of_kubernetes_allow(overlay: Path) -> None:
    documents = rendered(overlay)
    assert {document["kind"] for document in documents} >= {"ConfigMap", "NetworkPolicy", "Role"}
    for document in documents:
        kubernetes_validate.validate(document, "1.37", strict=True)


def test_every_component_is_in_an_overlay_or_renders_by_itself() -> None:
    used = "".join((path / "kustomization.yaml").read_text(encoding="utf-8") for path in OVERLAYS)
    for path in MANIFESTS.glob("components/*/kustomization.yaml"):
        assert f"components/{path.parent.name}\n" in used or rendered(path.parent), path.parent.name


@each_overlay
def test_every_workload_meets_the_restricted_pod_security_standard(overlay: Path) -> None:
    for template in pods(rendered(overlay)):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert set(pod["securityContext"]) <= {"runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup", "seccompProfile"}
        assert not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC", "ephemeralContainers"))
        assert pod["automountServiceAccountToken"] is False
        kinds = {next(key for key in volume if key != "name") for volume in pod["volumes"]}
        assert kinds <= {"emptyDir", "persistentVolumeClaim", "configMap", "secret", "projected"}
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert not any("hostPort" in port for port in container.get("ports", []))
            assert {"requests", "limits"} <= set(container["resources"]) and "readinessProbe" in container


@each_overlay
def test_overlays_name_secrets_and_hold_none(overlay: Path) -> None:
    documents = rendered(overlay)
    assert not [document for document in documents if document["kind"] == "Secret"]
    text = "\n".join(yaml.safe_dump(document) for document in documents).replace("\\n", "\n")
    named = {(name, None) for name in re.findall(r"secretName: ([\w-]+)", text)}
    for template in pods(documents):
        for container in template["spec"]["containers"]:
            references = [env["valueFrom"]["secretKeyRef"] for env in container["env"] if "valueFrom" in env]
            named |= {(reference["name"], reference["key"]) for reference in references}
    assert named and all(name in EXAMPLES and (key is None or key in EXAMPLES[name]) for name, key in named)


@each_overlay
def test_kfp_keeps_artifacts_in_the_store_that_stages_use(overlay: Path) -> None:
    documents = rendered(overlay)
    launcher, settings = (one(documents, "ConfigMap", name)["data"] for name in ("kfp-launcher", "synthio-settings"))
    provider = yaml.safe_load(launcher["providers"])["s3"]["default"]
    scheme = "http" if provider["disableSSL"] else "https"
    assert settings["AWS_ENDPOINT_URL_S3"] == f"{scheme}://{provider['endpoint']}"
    assert settings["AWS_REGION"] == provider["region"]
    assert launcher["defaultPipelineRoot"].split("/")[:3] == settings["SYNTHIO_STORE"].split("/")[:3]
    credentials = provider["credentials"]["secretRef"]
    assert {credentials["accessKeyKey"], credentials["secretKeyKey"]} <= EXAMPLES[credentials["secretName"]]


@pytest.mark.parametrize("name", ["dev", "dev-minio"])
def test_the_store_in_the_cluster_answers_where_it_is_looked_for_and_makes_its_bucket(name: str) -> None:
    documents = overlay(name)
    settings = one(documents, "ConfigMap", "synthio-settings")["data"]
    service = one(documents, "Service", "synthio-store")
    (port,) = service["spec"]["ports"]
    place = f"synthio-store.{service['metadata']['namespace']}.svc:{port['port']}"
    assert settings["AWS_ENDPOINT_URL_S3"] == f"http://{place}"
    (container,) = one(documents, "Deployment", "synthio-store")["spec"]["template"]["spec"]["containers"]
    assert port["targetPort"] in {exposed["name"] for exposed in container["ports"]}
    bucket = settings["SYNTHIO_STORE"].split("/")[2]
    made = yaml.safe_dump([container["args"], container.get("lifecycle", {})])
    assert re.search(rf"(s3\.bucket\.create -name |mkdir -p /data/){bucket}\b", made)


def test_the_store_in_the_cluster_has_room_for_volumes_on_its_claim() -> None:
    documents = overlay("dev")
    (container,) = one(documents, "Deployment", "synthio-store")["spec"]["template"]["spec"]["containers"]
    limit = re.search(r"-master\.volumeSizeLimitMB=(\d+)", container["args"][0])
    claim = one(documents, "PersistentVolumeClaim", "synthio-store")["spec"]["resources"]["requests"]["storage"]
    # SeaweedFS makes seven at once in a new bucket.
    assert limit and size(claim) / (int(limit[1]) * 2**20) - 1 >= 2 * 7


def test_the_caption_writer_has_a_gpu_and_is_reached_by_the_stages() -> None:
    documents = overlay("llm")
    template = one(documents, "Deployment", "synthio-llm")["spec"]["template"]
    (container,) = template["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == container["resources"]["requests"]["nvidia.com/gpu"]
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
    model = EndpointConfig().model
    assert {f"--model={model}", f"--revision={ChatModelConfig().checkpoint.revision}"} <= set(container["args"])
    assert ChatModelConfig().checkpoint.model == model
    labels = template["metadata"]["labels"]
    for kind in ("Service", "PodDisruptionBudget"):
        selector = one(documents, kind, "synthio-llm")["spec"]["selector"]
        assert (selector.get("matchLabels") or selector).items() <= labels.items()
    policy = one(documents, "NetworkPolicy", "synthio-default")["spec"]
    assert policy["podSelector"] == {"matchLabels": PART_OF} and PART_OF.items() <= labels.items()
    assert {"podSelector": {}} in policy["ingress"][0]["from"] and {"podSelector": {}} in policy["egress"][0]["to"]
    assert "ports" not in policy["egress"][0]


def test_pods_of_a_compiled_pipeline_are_those_that_the_policies_select(asked: dict[str, Any]) -> None:
    assert asked and all(PART_OF.items() <= stage["podMetadata"]["labels"].items() for stage in asked.values())
    for document in overlay("gpu"):
        if document["kind"] == "NetworkPolicy":
            assert document["spec"]["podSelector"] == {"matchLabels": PART_OF}
        if document["kind"] == "MutatingAdmissionPolicy":
            condition = document["spec"]["matchConditions"][0]["expression"]
            assert all(f'"{key}"] == "{value}"' in condition for key, value in PART_OF.items())


@each_profile
def test_what_a_profile_names_the_manifests_have(profile: str) -> None:
    documents, settings = overlay("gpu"), load_profile(profile)
    one(documents, "ConfigMap", settings.settings_config_map)
    one(documents, "PersistentVolumeClaim", settings.model_cache_claim)
    assert set(EXAMPLES) == {settings.store_secret, settings.llm_secret}


def test_keys_that_stages_take_from_secrets_and_settings_are_in_them(asked: dict[str, Any]) -> None:
    data = one(overlay("gpu"), "ConfigMap", load_profile("one-gpu").settings_config_map)["data"]
    seen: set[str] = set()
    for stage in asked.values():
        for secret in stage.get("secretAsEnv", []):
            name = secret.get("secretName") or secret["secretNameParameter"]["runtimeValue"]["constant"]
            assert {pair["secretKey"] for pair in secret["keyToEnv"]} <= EXAMPLES[name]
            seen.add(name)
        for source in stage.get("configMapAsEnv", []):
            assert {pair["configMapKey"] for pair in source["keyToEnv"]} <= set(data)
            seen |= {pair["configMapKey"] for pair in source["keyToEnv"]}
    assert seen == {*EXAMPLES, *data}


def test_stages_and_the_caption_writer_find_models_in_the_same_place(documents: Documents) -> None:
    (writer,) = one(overlay("llm"), "Deployment", "synthio-llm")["spec"]["template"]["spec"]["containers"]
    home = next(env["value"] for env in writer["env"] if env["name"] == "HF_HOME")
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        env = {pair["name"]: pair["value"] for pair in executor["container"].get("env", [])}
        assert env["HF_HOME"] == home and env["HF_HUB_OFFLINE"] == "1"


@each_profile
def test_the_largest_stage_fits_into_the_queue_and_into_the_quota_also_beside_the_caption_writer(profile: str) -> None:
    settings = load_profile(profile)
    quota = one(overlay("gpu"), "ResourceQuota", "synthio")["spec"]["hard"]
    queue = one(rendered(MANIFESTS / "components" / "queue"), "ClusterQueue", "synthio")["spec"]["resourceGroups"][0]
    share = {row["name"]: size(row["nominalQuota"]) for row in queue["flavors"][0]["resources"]}
    beside = one(overlay("llm"), "ResourceQuota", "synthio")["spec"]["hard"]
    (container,) = one(overlay("llm"), "Deployment", "synthio-llm")["spec"]["template"]["spec"]["containers"]
    writer = container["resources"]["requests"]
    assert set(share) == set(queue["coveredResources"]) == {"cpu", "memory", settings.gpu_type}
    for stage in STAGES:
        wanted = settings.resources(stage)
        for name, amount in (("cpu", wanted.cpu), ("memory", wanted.memory), (settings.gpu_type, wanted.gpus)):
            assert size(amount) <= min(share[name], size(quota[f"requests.{name}"])), (stage, name)
            assert size(amount) + size(writer[name]) <= size(beside[f"requests.{name}"]), (stage, name)


def test_queue_objects_refer_to_each_other() -> None:
    documents = rendered(MANIFESTS / "components" / "queue")
    local = one(documents, "LocalQueue", "synthio")
    queue = one(documents, "ClusterQueue", local["spec"]["clusterQueue"])["spec"]
    assert queue["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] == local["metadata"]["namespace"]
    for flavor in queue["resourceGroups"][0]["flavors"]:
        one(documents, "ResourceFlavor", flavor["name"])


CLUSTER_KINDS = {"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"}
"""A kustomize that does not know them gives them a namespace, which the API server takes off again."""


def assert_all_in(namespace: str, documents: Documents) -> None:
    for document in documents:
        here = document["metadata"].get("namespace")
        assert here == namespace or (here is None and document["kind"] in CLUSTER_KINDS)
        assert all(subject["namespace"] == namespace for subject in document.get("subjects", []))
    named = re.findall(r"[\w-]+\.([\w-]+)\.svc\b", "".join(yaml.safe_dump(document) for document in documents))
    assert set(named) <= {namespace}


@each_overlay
def test_everything_of_an_overlay_is_in_its_namespace(overlay: Path) -> None:
    assert_all_in("kubeflow" if overlay.name == "standalone" else "synthio", rendered(overlay))


@each_overlay
def test_an_overlay_is_moved_by_its_line_namespace(overlay: Path, tmp_path: Path) -> None:
    moved = tmp_path / "manifests"
    shutil.copytree(MANIFESTS, moved)
    file = moved / "overlays" / overlay.name / "kustomization.yaml"
    text, count = re.subn(r"^namespace: .*$", "namespace: team-a", file.read_text(), flags=re.MULTILINE)
    assert count == 1
    file.write_text(text)
    documents = rendered(file.parent)
    assert_all_in("team-a", documents)
    if "dev" in overlay.name:
        provider = yaml.safe_load(one(documents, "ConfigMap", "kfp-launcher")["data"]["providers"])["s3"]["default"]
        assert provider["endpoint"] == "synthio-store.team-a.svc:8333" and provider["credentials"]["secretRef"]


@each_overlay
def test_no_namespace_is_made_or_labelled(overlay: Path) -> None:
    """It is a profile's, whose controller and policies select it by its labels, or KFP's own."""
    assert "Namespace" not in {document["kind"] for document in rendered(overlay)}


def test_the_namespace_of_kfp_itself_is_not_limited() -> None:
    kinds = {document["kind"] for document in overlay("standalone")}
    assert not kinds & {"ResourceQuota", "LimitRange"} and "NetworkPolicy" in kinds
