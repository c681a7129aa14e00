"""Placement: every profile compiles, and its settings are in what KFP gets."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from common.errors import ConfigError
from pipelines.compile import compile_pipeline
from pipelines.placement import STAGES, image, image_sources, load_profile, profile_names, target_of

CLUSTER_PROFILES = [name for name in profile_names() if load_profile(name).cluster]


@functools.cache
def compiled(profile: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    documents = list(yaml.safe_load_all(compile_pipeline(folder / f"{profile}.yaml", profile).read_text()))
    return documents[0], documents[1] if len(documents) > 1 else {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profiles")


def stage_of(executor: str) -> str:
    return executor.removeprefix("exec-").rstrip("-0123456789").replace("-", "_")


def test_the_stages_of_the_profiles_are_the_stages() -> None:
    components = Path(__file__).resolve().parents[2] / "components"
    assert sorted(STAGES) == sorted(path.parent.name for path in components.glob("*/component.py"))


@pytest.mark.parametrize("name", CLUSTER_PROFILES)
def test_a_profile_compiles_to_a_valid_specification(name: str, folder: Path) -> None:
    document, platforms = compiled(name, folder)
    json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())
    executors = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(executors) == set(document["deploymentSpec"]["executors"])
    for config in executors.values():
        json_format.ParseDict(config, kubernetes_executor_config_pb2.KubernetesExecutorConfig())


@pytest.mark.parametrize("name", CLUSTER_PROFILES)
def test_every_stage_gets_its_image_gpus_memory_and_user(name: str, folder: Path) -> None:
    profile, (document, platforms) = load_profile(name), compiled(name, folder)
    settings = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for executor, description in document["deploymentSpec"]["executors"].items():
        stage, container = stage_of(executor), description["container"]
        wanted = profile.resources(stage)
        assert container["image"] == image(target_of(stage), profile)
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


def test_failed_pods_are_started_again_with_growing_pauses(folder: Path) -> None:
    document, _ = compiled("spot", folder)
    policy = document["root"]["dag"]["tasks"]["align-t2a"]["retryPolicy"]
    assert policy == {
        "maxRetryCount": 10, "backoffDuration": "60s", "backoffFactor": 2.0, "backoffMaxDuration": "1800s"
    }  # fmt: skip


def test_the_image_tag_changes_with_its_own_sources_only(tmp_path: Path) -> None:
    align = {path.as_posix() for path in image_sources("align-t2a")}
    assert any("components/align_t2a/" in path for path in align)
    assert not any("components/report/" in path for path in align)
    assert image("align-t2a", load_profile("one-gpu")).rsplit(":")[-1] not in ("dev", "latest")


def test_a_profile_with_an_unknown_stage_or_name_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("description: x\nstages: {align: {gpus: 1}}\n")
    with pytest.raises(ConfigError, match="unknown stage 'align'"):
        load_profile(str(wrong))
    with pytest.raises(ConfigError, match="one-gpu"):
        load_profile("one-gpus")
