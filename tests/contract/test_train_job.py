"""The TrainJob: the fields that Kubeflow Trainer knows, and what the same stage gets in the compiled pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from common.config.t2a import PretrainT2APlan
from pipelines.cluster.placement import QUEUE_LABEL, environment, image, load_profile, profile_names
from pipelines.commands import main
from pipelines.sources import code_version

CLUSTER_PROFILES = [name for name in profile_names() if load_profile(name).cluster]
ADDRESSES = ["--corpus", "s3://bucket/runs/1/corpus", "--clap", "s3://bucket/runs/1/clap"]


def only(required: str, **fields: Any) -> dict[str, Any]:
    """Schema of an object without other fields."""
    return {"type": "object", "properties": fields, "required": required.split(), "additionalProperties": False}


def one(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1, "maxItems": 16}


TEXT, ANY = {"type": "string", "minLength": 1, "maxLength": 253}, {"type": "object"}
ANYTHING: dict[str, Any] = {}
LIST = {"type": "array"}
TEXTS = {"type": "array", "items": {"type": "string", "maxLength": 1048576}, "maxItems": 128}
CONTAINER = only("name", name=TEXT, env={}, volumeMounts={}, securityContext=ANY)
POD = only(
    "containers",
    **{key: ANYTHING for key in ("serviceAccountName", "affinity", "schedulingGates", "terminationGracePeriodSeconds")},
    **{key: LIST for key in ("volumes", "initContainers", "imagePullSecrets", "tolerations")},
    securityContext=ANY,
    nodeSelector=ANY,
    containers=one(CONTAINER),
)
JOB = only("name", name=TEXT, template=only("spec", spec=only("template", template=only("", metadata=ANY, spec=POD))))
TRAINER = only(
    "image command numNodes",
    image={"type": "string", "maxLength": 500},
    command=TEXTS,
    args=TEXTS,
    env={"type": "array", "maxItems": 128},
    numNodes={"type": "integer", "minimum": 0},
    resourcesPerNode=ANY,
    numProcPerNode={"type": "integer", "minimum": 1},
)
PATCH = only(
    "manager", manager=TEXT, trainingRuntimeSpec=only("", template=only("", spec=only("", replicatedJobs=one(JOB))))
)
TRAIN_JOB = only(
    "apiVersion kind metadata spec",
    apiVersion={"const": "trainer.kubeflow.org/v1alpha1"},
    kind={"const": "TrainJob"},
    metadata=ANY,
    spec=only(
        "runtimeRef",
        runtimeRef=only("name", name=TEXT, apiGroup=TEXT, kind=TEXT),
        initializer={},
        trainer=TRAINER,
        runtimePatches=one(PATCH),
        suspend={"type": "boolean"},
        activeDeadlineSeconds={"type": "integer", "minimum": 1},
        managedBy=TEXT,
    ),
)
"""What kubeflow/trainer v2.3.0 allows (commit 8c0f505, manifests/base/crds/trainer.kubeflow.org_trainjobs.yaml)."""


@pytest.fixture(params=CLUSTER_PROFILES)
def rendered(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    profile = tmp_path / "own.yaml"
    source = Path("pipelines/profiles") / f"{request.param}.yaml"
    text = (Path(__file__).resolve().parents[2] / source).read_text()
    profile.write_text(f"{text}\nqueue: sounds\npriority_class: urgent\nimage_pull_secrets: [own]\n")
    assert main(["train-job", str(tmp_path / "job.yaml"), *ADDRESSES, "--nodes", "3", "--profile", str(profile)]) == 0
    return str(profile), yaml.safe_load((tmp_path / "job.yaml").read_text())


def test_it_has_the_fields_that_the_trainer_knows_and_no_other(rendered: tuple[str, dict[str, Any]]) -> None:
    jsonschema.Draft202012Validator(TRAIN_JOB).validate(rendered[1])


def test_its_pod_is_what_the_schemas_of_kubernetes_allow(rendered: tuple[str, dict[str, Any]]) -> None:
    _, job = rendered
    trainer, pod = parts(job)
    (container,) = pod["spec"]["containers"]
    container |= {key: trainer[key] for key in ("image", "command", "args", "env")}
    container["resources"] = trainer["resourcesPerNode"]
    whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "node", **pod["metadata"]}, "spec": pod["spec"]}
    kubernetes_validate.validate(whole, kubernetes_validate.latest_version(), strict=True)


def parts(job: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    (patch,) = job["spec"]["runtimePatches"]
    (node,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    return job["spec"]["trainer"], node["template"]["spec"]["template"]


def test_a_node_gets_what_the_stage_gets_and_waits_in_the_same_queue(rendered: tuple[str, dict[str, Any]]) -> None:
    name, job = rendered
    profile = load_profile(name)
    wanted, (trainer, pod) = profile.resources("pretrain_t2a"), parts(job)
    assert job["metadata"]["labels"][QUEUE_LABEL] == "sounds"
    assert (trainer["image"], trainer["numNodes"]) == (image("pretrain_t2a", profile), 3)
    limits = {"cpu": wanted.cpu, "memory": wanted.memory, profile.gpu_type: str(wanted.gpus)}
    assert trainer["resourcesPerNode"]["limits"] == limits and trainer["numProcPerNode"] == wanted.gpus
    plain = {pair["name"]: pair["value"] for pair in trainer["env"] if "value" in pair}
    assert environment(profile, "pretrain_t2a").items() <= plain.items()
    taken = {pair["name"] for pair in trainer["env"] if "valueFrom" in pair}
    assert taken == {"SYNTHIO_STORE", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert plain["SYNTHIO_GPUS"] == str(wanted.gpus)
    assert "urgent" not in str(job), "Trainer lets no job set a priority"
    assert pod["spec"]["nodeSelector"] == {**profile.node_selector, **profile.gpu_node_selector}
    assert pod["spec"]["securityContext"]["runAsUser"] == 10001
    assert {mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]} == {
        "/tmp", "/dev/shm", "/models"
    }  # fmt: skip


def test_its_model_has_the_key_under_which_the_stage_looks(rendered: tuple[str, dict[str, Any]]) -> None:
    arguments = rendered[1]["spec"]["trainer"]["args"]
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert given["--code-version"] == code_version("pretrain_t2a")
    from common.config.run import load_preset

    config = load_preset("paper")
    wanted = PretrainT2APlan(settings=config.pretrain_t2a, seed=config.seed)
    assert PretrainT2APlan.model_validate(json.loads(given["--config"])) == wanted


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--preset", "small", *ADDRESSES], "train no text-to-audio model"),
        (["--clap", "s3://b/c"], "CORPUS="),
        ([*ADDRESSES, "--nodes", "0"], "NODES=0"),
    ],
)
def test_what_cannot_be_rendered_is_refused(
    more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train-job", str(tmp_path / "job.yaml"), *more]) == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "job.yaml").exists()
