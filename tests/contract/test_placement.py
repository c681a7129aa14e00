"""Placement: every profile compiles, and its settings are in what KFP gets."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from common.errors import ConfigError
from common.training.launch import default_processes
from components.catalogue import STAGES
from pipelines.cluster.placement import (
    PRIORITY_LABEL,
    PROFILES_DIR,
    QUEUE_LABEL,
    ROOT,
    image,
    load_profile,
    profile_names,
)
from pipelines.dags.compile import PIPELINES
from tests.kit.once import Compiled, Job, compile_jobs, documents

CLUSTER_PROFILES = [name for name in profile_names() if load_profile(name).cluster]


def stage_of(executor: str) -> str:
    return executor.removeprefix("exec-").rstrip("-0123456789").replace("-", "_")


@pytest.mark.parametrize("name", CLUSTER_PROFILES)
def test_a_profile_compiles_to_a_valid_specification(name: str, compiled: Compiled) -> None:
    document, platforms = compiled.documents(profile=name)
    json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())
    executors = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == set(document["deploymentSpec"]["executors"])
    for config in executors.values():
        json_format.ParseDict(config, kubernetes_executor_config_pb2.KubernetesExecutorConfig())


@pytest.mark.parametrize("name", CLUSTER_PROFILES)
def test_every_stage_gets_its_image_gpus_memory_and_user(name: str, compiled: Compiled) -> None:
    profile, (document, platforms) = load_profile(name), compiled.documents(profile=name)
    settings = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for executor, description in document["deploymentSpec"]["executors"].items():
        stage, container = stage_of(executor), description["container"]
        wanted = profile.resources(stage)
        assert container["image"] == image(stage, profile)
        assert container["resources"].get("accelerator", {}).get("resourceCount", "0") == str(wanted.gpus)
        assert settings[executor]["securityContext"]["runAsNonRoot"] is True
        mounts = {mount["mountPath"]: mount for mount in settings[executor]["emptyDirMounts"]}
        assert ("/dev/shm" in mounts) == bool(wanted.shared_memory) == bool(wanted.gpus)
        names = {env["envVar"] for secret in settings[executor]["secretAsEnv"] for env in secret["keyToEnv"]}
        assert ("SYNTHIO_LLM_API_KEY" in names) == wanted.llm_key


def test_only_caption_writers_get_the_llm_key() -> None:
    for name in CLUSTER_PROFILES:
        keyed = {stage for stage in STAGES if load_profile(name).resources(stage).llm_key}
        assert keyed == {"augment_captions", "revise_captions"}


@pytest.mark.parametrize("name", CLUSTER_PROFILES)
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_attempt_of_a_stage_may_take_its_full_timeout(name: str, pipeline: str, compiled: Compiled) -> None:
    document, platforms = compiled.documents(pipeline, name)
    settings = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for part in (document["root"], *document["components"].values()):
        for task in part.get("dag", {}).get("tasks", {}).values():
            executor = document["components"][task["componentRef"]["name"]].get("executorLabel")
            if executor is None:
                assert "retryPolicy" not in task, "a DAG that is started again makes its tasks twice"
                continue
            policy, timeout_s = task["retryPolicy"], int(settings[executor]["activeDeadlineSeconds"])
            pause_s, factor = int(policy["backoffDuration"].rstrip("s")), policy["backoffFactor"]
            attempts, window_s = policy["maxRetryCount"], int(policy["backoffMaxDuration"].rstrip("s"))
            assert factor == int(factor) and attempts >= 1
            pauses_s = [pause_s * factor**index for index in range(attempts)]
            assert window_s >= (attempts + 1) * timeout_s + sum(pauses_s) and max(pauses_s) <= 3600


def test_the_example_of_argos_settings_retries_failures_and_errors_but_no_whole_pipeline() -> None:
    patch = yaml.safe_load((ROOT / "manifests" / "argo" / "retry-policy.yaml").read_text(encoding="utf-8"))
    defaults = yaml.safe_load(patch["data"]["workflowDefaults"])["spec"]["templateDefaults"]
    assert defaults == {"retryStrategy": {"limit": "0", "retryPolicy": "Always"}}


def test_stages_on_preemptible_nodes_are_tried_often_with_equal_pauses(compiled: Compiled) -> None:
    document, _ = compiled.documents(profile="spot")
    policy = document["root"]["dag"]["tasks"]["align-t2a"]["retryPolicy"]
    window = f"{11 * (86400 + 86400) + 600}s"
    assert policy == {"maxRetryCount": 10, "backoffDuration": "60s", "backoffFactor": 1.0, "backoffMaxDuration": window}


@pytest.mark.parametrize(
    ("retry", "message"),
    [
        ("{factor: 1.5}", "retry.factor: .*integer"),
        ("{factor: 0}", "retry.factor"),
        ("{attempts: 10, backoff: 60s}", "the last of 10 pauses would take 8.5 hours.*factor 1"),
        ("{backoff: 2h}", "8.0 hours"),
        ("{longest: 10m}", "retry.longest"),
    ],
)
def test_retries_that_argo_or_patience_do_not_bear_are_refused(tmp_path: Path, retry: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"description: x\nretry: {retry}\n")
    with pytest.raises(ConfigError, match=message):
        load_profile(str(tmp_path / "mine.yaml"))


def test_the_tag_of_an_image_is_its_content_on_a_cluster() -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", image("align_t2a", load_profile("one-gpu")).rsplit(":")[-1])


def test_a_profile_that_extends_another_changes_of_a_stage_only_what_it_states(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "extends: one-gpu\nregistry: r.example.com/x\ndefaults: {memory: 24Gi}\nretry: {attempts: 5}\n"
        "stages: {pretrain_t2a: {memory: 96Gi}, augment_captions: {gpus: 0}, report: {memory: 20Gi}}\n"
        "gpu_tolerations: [{key: mine}]\n"
    )
    (tmp_path / "ours.yaml").write_text(f"extends: {tmp_path}/mine.yaml\nstages: {{pretrain_t2a: {{cpu: '16'}}}}\n")
    before, mine, ours = (
        load_profile(str(name)) for name in ("one-gpu", tmp_path / "mine.yaml", tmp_path / "ours.yaml")
    )
    changed = {
        "pretrain_t2a": {"memory": "96Gi"},
        "augment_captions": {"gpus": 0},
        "report": {"memory": "20Gi"},
        **{stage: {"memory": "24Gi"} for stage in STAGES.keys() - before.stages.keys() - {"report"}},
    }
    for stage in STAGES:
        expected = before.resources(stage).model_copy(update=changed.get(stage, {}))
        assert mine.resources(stage) == expected, stage
    assert mine.retry == before.retry.model_copy(update={"attempts": 5})
    assert [each.key for each in mine.gpu_tolerations] == ["mine"]
    assert ours.resources("pretrain_t2a") == mine.resources("pretrain_t2a").model_copy(update={"cpu": "16"})


def test_a_profile_for_nodes_without_gpus_takes_all_stages_away(tmp_path: Path) -> None:
    (tmp_path / "cpu.yaml").write_text("extends: one-gpu\nstages: {}\n")
    profile = load_profile(str(tmp_path / "cpu.yaml"))
    assert {profile.resources(stage) for stage in STAGES} == {load_profile("one-gpu").defaults}


@pytest.mark.parametrize("stages", ["[]", "null", "{pretrain_t2a: 3}", "{pretrain_t2a: {gpu: 1}}"])
def test_stages_of_another_form_are_refused_by_name(tmp_path: Path, stages: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"extends: one-gpu\nstages: {stages}\n")
    with pytest.raises(ConfigError, match=r"mine.yaml: stages"):
        load_profile(str(tmp_path / "mine.yaml"))


def test_a_profile_with_an_unknown_stage_or_name_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("description: x\nstages: {align: {gpus: 1}}\n")
    with pytest.raises(ConfigError, match="unknown stage 'align'"):
        load_profile(str(wrong))
    with pytest.raises(ConfigError, match="one-gpu"):
        load_profile("one-gpus")
    wrong.write_text("description: x\nstages: {}\nstages: {}\n")
    with pytest.raises(ConfigError, match="'stages' stands twice"):
        load_profile(str(wrong))


EVERYTHING = """
gpu_type: example.com/gpu
priority_class: urgent
queue: sounds
image_pull_policy: Always
image_pull_secrets: [one, two]
node_selector: {zone: a}
gpu_node_selector: {pool: gpu}
tolerations: [{key: all, operator: Exists}]
gpu_tolerations: [{key: gpu, operator: Equal, value: "yes", effect: NoSchedule}]
retry: {attempts: 4, backoff: 45s, factor: 3}
model_cache: store
"""


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every profile of a cluster with all that one can state, as `<name>.yaml`, and `synthio-<name>.yaml` compiled."""
    folder = tmp_path_factory.mktemp("everything")
    for name in CLUSTER_PROFILES:
        stated = yaml.safe_load((PROFILES_DIR / f"{name}.yaml").read_text()) | yaml.safe_load(EVERYTHING)
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(stated))
    compile_jobs([Job(profile=str(folder / f"{name}.yaml")) for name in CLUSTER_PROFILES], folder)
    return folder


@pytest.mark.parametrize("name", CLUSTER_PROFILES)
@pytest.mark.parametrize("cache", ["claim", "store"])
def test_every_stage_is_kept_off_the_hub_whatever_the_settings_hold(
    name: str, cache: str, compiled: Compiled, everything: Path
) -> None:
    path = compiled.path(profile=name) if cache == "claim" else everything / f"synthio-{name}.yaml"
    document, platforms = documents(path)
    settings = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for executor, description in document["deploymentSpec"]["executors"].items():
        env = {pair["name"]: pair["value"] for pair in description["container"]["env"]}
        assert env["HF_HUB_OFFLINE"] == "1" and env["SYNTHIO_CACHE"].startswith("/tmp/")
        assert env["SYNTHIO_PACK_CLIPS"] == "1"
        accelerator = description["container"]["resources"].get("accelerator", {})
        assert env["SYNTHIO_GPUS"] == accelerator.get("resourceCount", "0")
        writable = {mount["mountPath"] for mount in settings[executor]["emptyDirMounts"]}
        assert env["HOME"] in writable, "the root file system may be read-only"
        claims = {mount["mountPath"]: mount["pvcNameParameter"] for mount in settings[executor].get("pvcMount", [])}
        assert set(claims) == ({"/models"} if cache == "claim" else set())
        assert env["HF_HOME"] == "/models" if cache == "claim" else env["HF_HOME"].startswith("/tmp/")
        taken = {pair["envVar"] for part in settings[executor]["configMapAsEnv"] for pair in part["keyToEnv"]}
        assert taken == {"SYNTHIO_STORE", "AWS_ENDPOINT_URL_S3", "AWS_REGION"}
        assert not any("HF_TOKEN" in str(secret) for secret in settings[executor]["secretAsEnv"])


@pytest.mark.parametrize("name", CLUSTER_PROFILES)
def test_whatever_a_profile_can_say_of_a_stage_is_in_what_kfp_gets(name: str, everything: Path) -> None:
    profile = load_profile(str(everything / f"{name}.yaml"))
    document, platforms = documents(everything / f"synthio-{name}.yaml")
    settings = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for executor, description in document["deploymentSpec"]["executors"].items():
        given, wanted = settings[executor], profile.resources(stage_of(executor))
        resources = description["container"]["resources"]
        for kind in ("Cpu", "Memory"):
            assert resources[f"resource{kind}Request"] == resources[f"resource{kind}Limit"]
        assert (resources["resourceCpuLimit"], resources["resourceMemoryLimit"]) == (wanted.cpu, wanted.memory)
        accelerator = resources.get("accelerator", {})
        assert accelerator.get("resourceType") == ("example.com/gpu" if wanted.gpus else None)
        assert given["activeDeadlineSeconds"] == str(wanted.timeout_s)
        assert given["imagePullPolicy"] == "Always"
        assert {named(secret, "secretName") for secret in given["imagePullSecret"]} == {"one", "two"}
        assert given["nodeSelector"]["labels"] == {"zone": "a"} | ({"pool": "gpu"} if wanted.gpus else {})
        assert [taint["key"] for taint in given["tolerations"]] == ["all", *(["gpu"] if wanted.gpus else [])]
        labels = given["podMetadata"]["labels"]
        assert (labels[PRIORITY_LABEL], labels[QUEUE_LABEL]) == ("urgent", "sounds")
        user = given["securityContext"]
        assert (user["runAsUser"], user["runAsGroup"], user["runAsNonRoot"]) == ("10001", "10001", True)
        shared = [mount for mount in given["emptyDirMounts"] if mount["mountPath"] == "/dev/shm"]
        assert [mount["sizeLimit"] for mount in shared] == ([wanted.shared_memory] if wanted.shared_memory else [])
    for dag in [document["root"], *document["components"].values()]:
        for task in dag.get("dag", {}).get("tasks", {}).values():
            if task["componentRef"]["name"] in {f"comp-{stage.replace('_', '-')}" for stage in STAGES}:
                timeout_s = profile.resources(
                    stage_of(task["componentRef"]["name"].replace("comp-", "exec-"))
                ).timeout_s
                assert task["retryPolicy"] == {
                    "maxRetryCount": 4,
                    "backoffDuration": "45s",
                    "backoffFactor": 3.0,
                    "backoffMaxDuration": f"{5 * (timeout_s + 86400) + 45 * (1 + 3 + 9 + 27)}s",
                }


def named(secret: dict[str, Any], key: str) -> str:
    return secret.get(key) or secret[f"{key}Parameter"]["runtimeValue"]["constant"]


@pytest.mark.parametrize("name", CLUSTER_PROFILES)
def test_only_stages_that_ask_how_many_gpus_there_are_get_several(name: str) -> None:
    profile = load_profile(name)
    for stage in [stage for stage in STAGES if profile.resources(stage).gpus > 1]:
        sources = (ROOT / "components" / stage).glob("*.py")
        assert any(re.search(r"default_processes\(\)|device_count\(\)", path.read_text()) for path in sources), stage


def test_a_training_has_one_process_for_each_gpu_that_it_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    assert default_processes() == 8
    # On two nodes of a train job, as torchrun started them; the estimate in the log counts them all.
    together = SimpleNamespace(num_processes=16)
    monkeypatch.setattr(importlib.import_module("common.training.launch"), "PartialState", lambda **options: together)
    assert default_processes() == 16
