"""Write the manifest of a Kubeflow TrainJob that pretrains the text-to-audio model on several nodes (`make train-job`).

Create it with `kubectl create -f`; a job that is created again resumes from the last checkpoint.
"""

from __future__ import annotations

import argparse
from typing import Any

import yaml

from common.config.run import load_preset
from common.config.t2a import PretrainT2APlan
from common.errors import ConfigError
from common.storage import write_text
from pipelines.cluster.placement import (
    MODELS,
    PART_OF,
    QUEUE_LABEL,
    SCRATCH,
    SETTINGS,
    STORE_KEYS,
    USER_ID,
    Profile,
    environment,
    image,
    load_profile,
)
from pipelines.commands.arguments import number
from pipelines.sources import code_version

OPTIONS = {
    **{"target": ..., "--preset": "paper", "--overrides": "", "--profile": "eight-gpus", "--nodes": "2"},
    **{"--corpus": "", "--clap": ""},
}

STAGE = "pretrain_t2a"
RUNTIME, JOB, CONTAINER = "torch-distributed", "node", "node"


def train_job(plan: PretrainT2APlan, profile: Profile, nodes: int, corpus: str, clap: str) -> dict[str, Any]:
    """Build the manifest of a TrainJob.

    Fields follow kubeflow/trainer v2.3.0 (commit 8c0f505, pkg/apis/trainer/v1alpha1/trainjob_types.go) and its runtime
    `torch-distributed`, whose job and container are both called `node` and which sets torchrun's environment. The image
    pull policy is the runtime's, and there are no retries.

    Args:
        plan: settings of the stage; a run with the same settings finds the model.
        profile: each node gets the stage's resources in this profile.
        nodes: at least 1.
        corpus: address of the artifact of prepare_corpus.
        clap: address of the artifact of pretrain_clap.

    Raises ConfigError: the settings train nothing, or an address is wrong.
    """
    if plan.settings.optim is None or plan.settings.reuse is not None:
        raise ConfigError("these settings train no text-to-audio model; take PRESET=paper, or set pretrain_t2a.optim")
    for name, uri in (("CORPUS", corpus), ("CLAP", clap)):
        if not uri.startswith("s3://"):
            raise ConfigError(
                f"{name}={uri}: expected the s3:// address of the artifact, as the page of a run shows it"
            )
    resources, version = profile.resources(STAGE), code_version(STAGE)
    quantities = {"cpu": resources.cpu, "memory": resources.memory}
    if resources.gpus:
        quantities[profile.gpu_type] = str(resources.gpus)
    trainer = {
        "image": image(STAGE, profile),
        "command": ["torchrun", "-m", "components.pretrain_t2a.nodes"],
        "args": ["--corpus", corpus, "--clap", clap, "--config", plan.model_dump_json(), "--code-version", version],
        "env": _environment(profile),
        "numNodes": nodes,
        "numProcPerNode": max(1, resources.gpus),
        "resourcesPerNode": {"requests": quantities, "limits": quantities},
    }
    labels = {**PART_OF, **({QUEUE_LABEL: profile.queue} if profile.queue else {})}
    replicated = {"name": JOB, "template": {"spec": {"template": _pod(profile)}}}
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"generateName": "synthio-pretrain-t2a-", "labels": labels},
        "spec": {
            "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": "ClusterTrainingRuntime", "name": RUNTIME},
            "activeDeadlineSeconds": resources.timeout_s,
            "trainer": trainer,
            "runtimePatches": [
                {
                    "manager": "synthio/train-job",
                    "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [replicated]}}},
                }
            ],
        },
    }


def _environment(profile: Profile) -> list[dict[str, Any]]:
    settings = [("configMapKeyRef", profile.settings_config_map, name, name) for name in SETTINGS]
    keys = [("secretKeyRef", profile.store_secret, key, name) for key, name in STORE_KEYS.items()]
    return [
        *({"name": name, "value": value} for name, value in environment(profile, STAGE).items()),
        *(
            {"name": name, "valueFrom": {kind: {"name": source, "key": key, "optional": True}}}
            for kind, source, key, name in (*settings, *keys)
        ),
    ]


def _pod(profile: Profile) -> dict[str, Any]:
    """Additions to the runtime's pod: writable volumes, the model cache, the user, node selection."""
    resources = profile.resources(STAGE)
    volumes: dict[str, tuple[str, dict[str, Any]]] = {"scratch": (SCRATCH, {"emptyDir": {}})}
    if resources.shared_memory:
        memory = {"medium": "Memory", "sizeLimit": resources.shared_memory}
        volumes["shared-memory"] = ("/dev/shm", {"emptyDir": memory})
    if profile.model_cache == "claim":
        volumes["models"] = (MODELS, {"persistentVolumeClaim": {"claimName": profile.model_cache_claim}})
    return {
        "metadata": {
            # The nodes of a job find each other without a sidecar.
            "labels": {**PART_OF, "sidecar.istio.io/inject": "false"}
        },
        "spec": {
            "securityContext": {
                "runAsUser": USER_ID,
                "runAsGroup": USER_ID,
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "nodeSelector": profile.selector_of(STAGE),
            "tolerations": [item.model_dump(exclude_none=True) for item in profile.tolerations_of(STAGE)],
            "imagePullSecrets": [{"name": name} for name in profile.image_pull_secrets],
            "volumes": [{"name": name, **source} for name, (_, source) in volumes.items()],
            "containers": [
                {
                    "name": CONTAINER,
                    "volumeMounts": [{"name": name, "mountPath": path} for name, (path, _) in volumes.items()],
                    "securityContext": {
                        "readOnlyRootFilesystem": True,
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def run(options: argparse.Namespace) -> int:
    """Write the manifest for `kubectl create -f`; exit status 0 = written, 2 = bad input."""
    config, profile = load_preset(options.preset, options.overrides), load_profile(options.profile)
    plan = PretrainT2APlan(settings=config.pretrain_t2a, seed=config.seed, scope=config.scope)
    job = train_job(plan, profile, number("NODES", options.nodes, 1), options.corpus, options.clap)
    write_text(options.target, yaml.safe_dump(job, sort_keys=False))
    print(f"{options.target}: for kubectl create -f, in the namespace of the pipeline's pods")
    return 0
