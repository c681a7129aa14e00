"""Placement of the stages by a typed profile: image, GPUs, memory, caches, secrets, retries."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from common.config.base import Frozen, parse_yaml
from common.errors import ConfigError, unknown_name
from common.runtime.devices import GPUS
from common.storage.artifacts import PACK
from components.catalogue import LOCAL_REGISTRY, STAGES, layer_of
from pipelines.sources import ROOT, digest

if TYPE_CHECKING:
    from kfp.dsl import PipelineTask

PROFILES_DIR = ROOT / "pipelines" / "profiles"
PRIORITY_LABEL = "synthio/priority-class"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
PART_OF = {"app.kubernetes.io/part-of": "synthio"}
SETTINGS = ("SYNTHIO_STORE", "AWS_ENDPOINT_URL_S3", "AWS_REGION")
"""Keys of the config map, and names of the variables that they set."""
STORE_KEYS = {"access_key": "AWS_ACCESS_KEY_ID", "secret_key": "AWS_SECRET_ACCESS_KEY"}
"""Keys of the store's secret, with the variables that they set."""
USER_ID = 10001
MODELS, SCRATCH = "/models", "/tmp"
LONGEST_PAUSE_S = 3600
"""Largest pause between two attempts of a stage."""
WAITING_S = 24 * 3600
"""Seconds that each attempt of a stage may wait for a node, a queue and the image."""


class Toleration(Frozen):
    """Toleration of a taint by the pods of a profile, with the fields of a Kubernetes toleration."""

    key: str
    operator: Literal["Equal", "Exists"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "NoExecute", "PreferNoSchedule"] | None = None


class Retry(Frozen):
    """Retries of a failed pod; a retried stage resumes."""

    attempts: int = Field(default=3, ge=0, le=20, description="after the first start")
    backoff: str = Field(default="30s", pattern=r"^\d+[smh]$", description="pause before the first retry")
    factor: int = Field(default=2, ge=1, description="of each pause to the one before; Argo takes whole numbers only")

    @model_validator(mode="after")
    def _pauses_are_short(self) -> Retry:
        if self.pauses_s and self.pauses_s[-1] > LONGEST_PAUSE_S:
            raise ValueError(
                f"the last of {self.attempts} pauses would take {self.pauses_s[-1] / 3600:.1f} hours, more than "
                f"{LONGEST_PAUSE_S // 3600}; take factor 1, or fewer attempts"
            )
        return self

    @property
    def pauses_s(self) -> tuple[int, ...]:
        """Seconds of the pause before each retry; KFP has no upper bound for one."""
        first = int(self.backoff[:-1]) * {"s": 1, "m": 60, "h": 3600}[self.backoff[-1]]
        return tuple(first * self.factor**index for index in range(self.attempts))

    def window_s(self, timeout_s: int) -> int:
        """Seconds from the first start of a stage in which Argo retries it, and after which it ends a running retry.

        Enough for all attempts at their full timeout. Argo also counts waiting for a node, a queue and the image.
        """
        return (self.attempts + 1) * (timeout_s + WAITING_S) + sum(self.pauses_s)


class Resources(Frozen):
    """Resources of one stage's pod, in Kubernetes quantities."""

    cpu: str = Field(default="2", pattern=r"^\d+m?$")
    memory: str = Field(default="8Gi", pattern=r"^\d+(Mi|Gi)$")
    gpus: int = Field(default=0, ge=0, le=16)
    shared_memory: str | None = Field(
        default=None, pattern=r"^\d+(Mi|Gi)$", description="size of /dev/shm; the default of 64 MB kills data loaders"
    )
    timeout_s: int = Field(default=6 * 3600, gt=0)
    llm_key: bool = Field(default=False, description="whether the pod gets the API key of the caption writer")


class Profile(Frozen):
    """Placement settings of one cluster, or of this machine."""

    description: str
    registry: str = Field(
        default=LOCAL_REGISTRY, pattern=r"^[\w.:/-]+[\w]$", description="prefix of the images; set it before compiling"
    )
    tag: str | None = Field(
        default=None,
        pattern=r"^[\w.-]+$",
        description="of all images; null = each image's content, which never changes",
    )
    cluster: bool = Field(default=True, description="false: images only, no Kubernetes settings")
    gpu_type: str = Field(default="nvidia.com/gpu", description="the extended resource of the GPUs")
    defaults: Resources = Resources()
    stages: dict[str, Resources] = Field(
        default={}, description="stage to resources; what one does not state, and other stages, come from `defaults`"
    )
    retry: Retry = Retry()
    parallel_cells: int = Field(
        default=1,
        ge=1,
        description="of a study at a time; with more, the first ones may each pretrain, as none finds the other's work",
    )
    cells_per_run: int = Field(
        default=4,
        ge=1,
        description="most cells of a study in one run: Argo keeps the state of a run in one object of 1 MB; more only "
        "where it offloads the state of nodes",
    )
    node_selector: dict[str, str] = Field(default={}, description="of every stage")
    gpu_node_selector: dict[str, str] = Field(default={}, description="added for stages with GPUs")
    tolerations: tuple[Toleration, ...] = ()
    gpu_tolerations: tuple[Toleration, ...] = Field(default=(), description="added for stages with GPUs")
    priority_class: str | None = Field(
        default=None,
        description=f"becomes the label {PRIORITY_LABEL}, from which manifests/components/hardening sets the class: "
        "the SDK of KFP cannot set it",
    )
    queue: str | None = Field(default=None, description="Kueue's local queue")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    model_cache: Literal["claim", "store"] = Field(
        default="claim", description="where stages find published models: on a PVC, or in the run store"
    )
    model_cache_claim: str = Field(default="synthio-model-cache", description=f"PVC mounted at {MODELS}")
    settings_config_map: str = "synthio-settings"
    store_secret: str = Field(default="synthio-s3", description="keys access_key and secret_key")
    llm_secret: str = Field(default="synthio-llm", description="key api_key")

    @model_validator(mode="after")
    def _stages_exist(self) -> Profile:
        unknown = sorted(set(self.stages) - set(STAGES))
        if unknown:
            raise ValueError(f"unknown stage {unknown[0]!r}; stages are {', '.join(STAGES)}")
        return self

    def resources(self, stage: str) -> Resources:
        """Resources of `stage`: its own, and what they do not state from the defaults."""
        own = self.stages.get(stage)
        return self.defaults if own is None else self.defaults.model_copy(update=own.model_dump(exclude_unset=True))

    def selector_of(self, stage: str) -> dict[str, str]:
        """Labels of the nodes that `stage` may run on."""
        return {**self.node_selector, **(self.gpu_node_selector if self.resources(stage).gpus else {})}

    def tolerations_of(self, stage: str) -> tuple[Toleration, ...]:
        """Tolerations of `stage`."""
        return (*self.tolerations, *(self.gpu_tolerations if self.resources(stage).gpus else ()))


@cache
def profile_names() -> tuple[str, ...]:
    """Names of the profiles in `pipelines/profiles`."""
    return tuple(sorted(path.stem for path in PROFILES_DIR.glob("*.yaml")))


def load_profile(name: str) -> Profile:
    """Load a profile.

    Args:
        name: name of a profile in `pipelines/profiles`, or path of a YAML file; its fields replace those of the profile
            that it `extends`, if it names one. Of `stages`, `defaults` and `retry` only the fields that it states do;
            `stages: {}` leaves none.

    Raises ConfigError: the profile is unknown, or has a bad value.
    """
    path = Path(name).expanduser() if name.endswith((".yaml", ".yml")) else PROFILES_DIR / f"{name}.yaml"
    if not path.is_file():
        raise unknown_name("profile", name, profile_names())
    try:
        stated = parse_yaml(path.read_text(encoding="utf-8")) or {}
        if base := stated.pop("extends", ""):
            stated = _over(load_profile(base).model_dump(exclude_unset=True), stated)
        return Profile.model_validate(stated)
    except (yaml.YAMLError, ValidationError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        raise ConfigError(f"profile {path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _over(base: dict[str, Any], stated: dict[str, Any]) -> dict[str, Any]:
    """Fields of a profile over those of the one that it extends."""
    merged = base | stated
    for name in ("defaults", "retry", "stages"):
        before, own = base.get(name), stated.get(name)
        if isinstance(before, dict) and isinstance(own, dict) and own:
            merged[name] = before | own
    if isinstance(stated.get("stages"), dict):
        for stage, own in stated["stages"].items():
            if isinstance(own, dict):
                merged["stages"][stage] = base.get("stages", {}).get(stage, {}) | own
    return merged


def image(stage: str, profile: Profile) -> str:
    """Name of the image that a stage runs in."""
    return f"{profile.registry}/{layer_of(stage)}:{profile.tag or image_tag(layer_of(stage))}"


@cache
def image_tag(layer: str) -> str:
    """16 hex digits over the content of a layer's image: the meaning of its sources, and its Dockerfile parts."""
    recipe = hashlib.sha256(image_recipe(layer).encode()).hexdigest()
    return hashlib.sha256(f"{recipe}{digest(image_sources(layer))}".encode()).hexdigest()[:16]


def image_sources(layer: str) -> list[Path]:
    """Files that the Dockerfile copies into the image on `layer`, sorted."""
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )*(.*) \S+$", image_recipe(layer), flags=re.MULTILINE)
    sources = [ROOT / name for names in copied for name in names.split()]
    files = [path for source in sources for path in (source, *source.rglob("*")) if path.is_file()]
    return sorted({path for path in files if "__pycache__" not in path.parts})


def image_recipe(layer: str) -> str:
    """Parts of the Dockerfile that build the image on `layer`: its own part and those it builds on."""
    text = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8").replace("FROM ${LAYER}", f"FROM {layer}")
    head, *parts = re.split(r"^(?=FROM )", text, flags=re.MULTILINE)
    by_name = {part.split()[3]: part for part in parts}
    needed, queue = dict[str, str](), ["stages"]
    while queue:
        name = queue.pop()
        if name in by_name and name not in needed:
            needed[name] = by_name[name]
            queue += re.findall(r"^(?:FROM |COPY --from=)(\S+)", by_name[name], flags=re.MULTILINE)
    return head + "".join(part for name, part in sorted(needed.items()))


def place(task: PipelineTask, stage: str, profile: Profile) -> PipelineTask:
    """Set image, resources and Kubernetes settings of `task` from the profile; return the task."""
    task.set_container_image(image(stage, profile))
    if not profile.cluster:
        return task
    resources = profile.resources(stage)
    task.set_cpu_request(resources.cpu).set_cpu_limit(resources.cpu)
    task.set_memory_request(resources.memory).set_memory_limit(resources.memory)
    if resources.gpus:
        task.set_accelerator_type(profile.gpu_type).set_accelerator_limit(resources.gpus)
    if profile.retry.attempts:
        task.set_retry(
            profile.retry.attempts,
            backoff_duration=profile.retry.backoff,
            backoff_factor=profile.retry.factor,
            backoff_max_duration=f"{profile.retry.window_s(resources.timeout_s)}s",
        )
    _schedule(task, profile, stage)
    _equip(task, profile, stage)
    return task


def environment(profile: Profile, stage: str) -> dict[str, str]:
    """Variables of a stage, whatever the config map holds; the network is used only for store and LLM."""
    return {
        "HF_HUB_OFFLINE": "1",
        # The image's HOME is on the root file system, which may be read-only; caches of libraries lie below it.
        "HOME": SCRATCH,
        "HF_HOME": MODELS if profile.model_cache == "claim" else f"{SCRATCH}/models",
        "SYNTHIO_CACHE": f"{SCRATCH}/synthio-cache",
        PACK: "1",
        GPUS: str(profile.resources(stage).gpus),
    }


def _schedule(task: Any, profile: Profile, stage: str) -> None:
    from kfp import kubernetes

    kubernetes.set_timeout(task, seconds=profile.resources(stage).timeout_s)
    for key, value in profile.selector_of(stage).items():
        kubernetes.add_node_selector(task, key, value)
    for toleration in profile.tolerations_of(stage):
        kubernetes.add_toleration(task, **toleration.model_dump())
    for key, label in {**PART_OF, PRIORITY_LABEL: profile.priority_class, QUEUE_LABEL: profile.queue}.items():
        if label:
            kubernetes.add_pod_label(task, key, label)


def _equip(task: Any, profile: Profile, stage: str) -> None:
    from kfp import kubernetes

    resources = profile.resources(stage)
    kubernetes.set_image_pull_policy(task, profile.image_pull_policy)
    if profile.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(profile.image_pull_secrets))
    kubernetes.set_security_context(task, run_as_user=USER_ID, run_as_group=USER_ID, run_as_non_root=True)
    kubernetes.empty_dir_mount(task, "scratch", SCRATCH)
    if resources.shared_memory:
        kubernetes.empty_dir_mount(
            task, "shared-memory", "/dev/shm", medium="Memory", size_limit=resources.shared_memory
        )
    if profile.model_cache == "claim":
        kubernetes.mount_pvc(task, pvc_name=profile.model_cache_claim, mount_path=MODELS)
    for name, value in environment(profile, stage).items():
        task.set_env_variable(name, value)
    names = {name: name for name in SETTINGS}
    kubernetes.use_config_map_as_env(task, profile.settings_config_map, names, optional=True)
    kubernetes.use_secret_as_env(task, profile.store_secret, STORE_KEYS, optional=True)
    if resources.llm_key:
        kubernetes.use_secret_as_env(task, profile.llm_secret, {"api_key": "SYNTHIO_LLM_API_KEY"}, optional=True)
