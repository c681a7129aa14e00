"""Checks of a cluster before anything is submitted to it (`KFP_HOST=… make doctor`)."""

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import httpx

from common.captions.secrets import read_key
from common.config.captions import EndpointConfig
from common.config.run import RunConfig
from common.errors import SynthioError
from common.models.registry import missing_models, named_models
from common.storage import open_store
from components.catalogue import STAGES
from pipelines.cluster.api import MINIMUM, Cluster, Connection
from pipelines.cluster.placement import Profile, Toleration, image

TIMEOUT_S = 10.0
SINGLE_USER = "kubeflow"
"""Namespace in which KFP for one user runs every pod: its own."""
MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
)
_UNITS = {"": 1.0, "m": 1e-3, **{unit: 1000.0**i for i, unit in enumerate("kMGTP", 1)}}
_UNITS |= {f"{unit}i": 1024.0**i for i, unit in enumerate("KMGTP", 1)}
"""Factors of the units of Kubernetes quantities."""
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Check:
    """Result of one check; "not checked" where this machine cannot tell."""

    name: str
    state: Literal["ok", "problem", "not checked"]
    text: str

    def __str__(self) -> str:
        return f"{self.name:<10} {self.state}: {self.text}"


def examine_cluster(connection: Connection, profile: Profile, config: RunConfig, store: str) -> Iterator[Check]:
    """Check API, namespace, store (its address; empty = not checked), images, nodes, caption writer and models."""
    # A pod of a profile, such as a notebook, knows its namespace without KFP_NAMESPACE.
    namespace = connection.namespace
    try:
        cluster = Cluster(connection)
        namespace = cluster.namespace
        yield _api(cluster)
    except SynthioError as error:
        yield Check("API", "problem", str(error))
    yield _namespace(namespace, profile)
    yield _guarded("store", lambda: _store(store))
    yield from _images(profile)
    yield _nodes(namespace, profile)
    yield from _writers(config)
    yield _guarded("models", lambda: _models(config, profile, store))


def verdict(checks: Sequence[Check]) -> str:
    """Say in one line whether the cluster is ready for the run, and which parts are not or could not be seen."""
    wrong, unseen = ([check.name for check in checks if check.state == state] for state in ("problem", "not checked"))
    if wrong:
        return f"not ready: {', '.join(dict.fromkeys(wrong))}"
    if unseen:
        return f"ready, as far as can be seen from here; not checked: {', '.join(dict.fromkeys(unseen))}"
    return "ready"


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except SynthioError as error:
        return Check(name, "problem", str(error))


def _api(cluster: Cluster) -> Check:
    cluster.ask(lambda: cluster.client.list_pipelines(page_size=1, namespace=cluster.namespace))
    needed = ".".join(map(str, MINIMUM))
    said = str(cluster.health().get("tag_name") or "unknown")
    host, known = cluster.connection.host, re.match(r"v?(\d+)\.(\d+)", said)
    if known and (int(known[1]), int(known[2])) < MINIMUM:
        return Check("API", "problem", f"{host} is KFP {said}; runs need {needed} or later: upgrade it")
    version = f"KFP {said}" if known else f"KFP of unknown version ({said}; runs need {needed} or later)"
    place = f", namespace {cluster.namespace}" if cluster.namespace else ""
    return Check("API", "ok", f"{host} answers and accepts this account{place}; {version}")


def _namespace(of_profile: str | None, profile: Profile) -> Check:
    """Look for what every pod of a run takes from its namespace; None = KFP for a single user."""
    namespace = of_profile or SINGLE_USER
    account = f"serviceaccount/{'default-editor' if of_profile else 'pipeline-runner'}"
    overlay = "apply the overlay in this namespace (kubectl apply -k manifests/overlays/…)"
    needed = {
        account: "the namespace is neither a Kubeflow profile's nor KFP's own: make the profile first",
        f"configmap/{profile.settings_config_map}": overlay,
        f"secret/{profile.store_secret}": "apply the secret, see manifests/secrets",
        **{f"secret/{name}": "make it, or correct image_pull_secrets" for name in profile.image_pull_secrets},
    }
    if profile.queue:
        needed[f"localqueue/{profile.queue}"] = "pods wait for it for ever: make it, or correct queue of the profile"
    if profile.priority_class:
        needed[f"priorityclass/{profile.priority_class}"] = "make it, or correct priority_class of the profile"
    if profile.model_cache == "claim":
        needed[f"persistentvolumeclaim/{profile.model_cache_claim}"] = overlay
    rows, said = _kubectl("get", *needed, "-n", namespace, "--ignore-not-found")
    if rows is None:
        return Check("namespace", "not checked", f"{said}; a run needs {', '.join(needed)} in {namespace}")
    found = {f"{row['kind'].lower()}/{row['metadata']['name']}" for row in rows}
    missing = [f"{name}: {todo}" for name, todo in needed.items() if name not in found]
    if missing:
        return Check("namespace", "problem", f"{namespace} lacks {'; '.join(missing)}")
    return Check("namespace", "ok", f"{namespace} has {', '.join(needed)}")


def _store(store: str) -> Check:
    if not store.startswith("s3://"):
        text = "name it with STORE=s3://bucket/prefix, and its keys as in the secret synthio-s3"
        return Check("store", "not checked", text)
    objects, key = open_store(store).child("doctor"), uuid4().hex
    objects.write_bytes(key, b"synthio")
    read = objects.read_bytes(key)
    objects.delete(key)
    if read != b"synthio":
        return Check("store", "problem", f"{store} gave back other bytes than were written; look at the store's log")
    return Check("store", "ok", f"{store}: written, read and deleted an object")


def _images(profile: Profile) -> list[Check]:
    names = list(dict.fromkeys(image(stage, profile) for stage in STAGES))
    answers = {name: _manifest(name) for name in names}
    missing = [name for name, answer in answers.items() if answer == "missing"]
    unknown = {name: answer for name, answer in answers.items() if answer not in ("ok", "missing")}
    found = []
    if missing:
        text = f"{len(missing)} of {len(names)} are not in the registry, such as {missing[0]}"
        found.append(Check("images", "problem", f"{text}: make images push REGISTRY={profile.registry}"))
    if unknown:
        name, answer = next(iter(unknown.items()))
        found.append(Check("images", "not checked", f"{len(unknown)} of {len(names)}, such as {name}: {answer}"))
    return found or [Check("images", "ok", f"all {len(names)} are in {profile.registry}")]


def _manifest(name: str) -> str:
    """Ask a registry for an image: "ok", "missing", or the reason why it cannot be asked."""
    host, _, rest = name.partition("/")
    path, _, tag = rest.rpartition(":")
    if "." not in host and ":" not in host:
        return f"{host} names no registry; set `registry` in the profile"
    scheme = "http" if host.split(":")[0] in ("localhost", "127.0.0.1") else "https"
    url = f"{scheme}://{host}/v2/{path}/manifests/{tag}"
    try:
        with httpx.Client(timeout=TIMEOUT_S, headers={"Accept": MANIFESTS}) as client:
            answer = client.head(url)
            if answer.status_code == 401:
                challenge = answer.headers.get("WWW-Authenticate", "")
                answer = client.head(url, headers=_authorization(client, host, challenge))
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return f"{host} cannot be asked from this machine ({type(error).__name__})"
    if answer.status_code in (200, 404):
        return "ok" if answer.status_code == 200 else "missing"
    return f"{host} answered {answer.status_code}; sign in (docker login {host})"


def _authorization(client: httpx.Client, host: str, challenge: str) -> dict[str, str]:
    """Authorization header for a registry's challenge, with the account stored by `docker login`, if any."""
    kept = None
    with contextlib.suppress(OSError, ValueError):
        stored = json.loads((Path.home() / ".docker" / "config.json").read_text(encoding="utf-8"))
        kept = (stored.get("auths", {}).get(host) or {}).get("auth")
    fields = dict(_CHALLENGE.findall(challenge))
    if not challenge.lower().startswith("bearer") or "realm" not in fields:
        return {"Authorization": f"Basic {kept}"} if kept else {}
    asked = {key: fields[key] for key in ("service", "scope") if key in fields}
    headers = {"Accept": "application/json"} | ({"Authorization": f"Basic {kept}"} if kept else {})
    given = client.get(fields["realm"], params=asked, headers=headers)
    if given.status_code != 200:
        return {}
    token = given.json()
    return {"Authorization": f"Bearer {token.get('token') or token.get('access_token')}"}


def _nodes(of_profile: str | None, profile: Profile) -> Check:
    """Set the selectors, tolerations and requests of each stage beside the nodes, and beside the namespace's quota."""
    nodes, said = _kubectl("get", "nodes")
    if not nodes:
        gpus = max(profile.resources(stage).gpus for stage in STAGES)
        return Check(
            "nodes",
            "not checked",
            f"{said or 'no node is to be seen'}; a stage needs {gpus} of {profile.gpu_type} on one node",
        )
    unfit = {stage: text for stage in STAGES if (text := _unfit(stage, profile, nodes))}
    if unfit:
        stage, text = next(iter(unfit.items()))
        todo = (
            "correct the profile, or add such a node; one that an autoscaler adds when it is asked for is not seen here"
        )
        return Check(
            "nodes", "problem", f"{len(unfit)} of {len(STAGES)} stages have none, such as {stage}: {text}; {todo}"
        )
    quotas, _ = _kubectl("get", "resourcequota", "-n", of_profile or SINGLE_USER)
    for quota in quotas or []:
        hard = quota["status"].get("hard", {})
        for stage in STAGES:
            for what, asked in _requests(profile, stage).items():
                # A stage's limits are its requests.
                for name in (f"requests.{what}", f"limits.{what}", what):
                    if name in hard and _amount(hard[name]) < _amount(asked):
                        text = (
                            f"quota {quota['metadata']['name']} allows {hard[name]} of {name}, {stage} asks for {asked}"
                        )
                        return Check("nodes", "problem", f"{text}: raise it")
    return Check(
        "nodes", "ok", f"one of {len(nodes)} fits each stage, by labels, taints and size; no quota is in the way"
    )


def _unfit(stage: str, profile: Profile, nodes: Sequence[dict[str, Any]]) -> str:
    """Why a stage's pod fits on none of the nodes; empty where one is large enough, whatever runs there."""
    selector, tolerations = profile.selector_of(stage), profile.tolerations_of(stage)
    fitting = [node for node in nodes if selector.items() <= node["metadata"].get("labels", {}).items()]
    if not fitting:
        return f"no node has the labels {', '.join(f'{key}={value}' for key, value in selector.items())}"
    taints = [[taint for taint in node["spec"].get("taints", ()) if not _borne(taint, tolerations)] for node in fitting]
    fitting = [node for node, kept in zip(fitting, taints, strict=True) if not kept]
    if not fitting:
        told = {f"{each['key']}={each.get('value', '')}:{each['effect']}" for kept in taints for each in kept}
        return f"the nodes that it may run on have taints that it does not bear: {', '.join(sorted(told))}"
    for what, asked in _requests(profile, stage).items():
        found = [node["status"]["allocatable"].get(what, "0") for node in fitting]
        fitting = [node for node, has in zip(fitting, found, strict=True) if _amount(has) >= _amount(asked)]
        if not fitting:
            return (
                f"it asks for {asked} of {what}, and the largest node that it may run on has {max(found, key=_amount)}"
            )
    return ""


def _requests(profile: Profile, stage: str) -> dict[str, str]:
    """What a stage asks of one node, by the name of the resource; the rarest first."""
    resources = profile.resources(stage)
    gpus = {profile.gpu_type: str(resources.gpus)} if resources.gpus else {}
    return {**gpus, "memory": resources.memory, "cpu": resources.cpu}


def _borne(taint: dict[str, str], tolerations: Sequence[Toleration]) -> bool:
    return taint["effect"] == "PreferNoSchedule" or any(
        each.key == taint["key"]
        and (each.operator == "Exists" or (each.value or "") == taint.get("value", ""))
        and each.effect in (None, taint["effect"])
        for each in tolerations
    )


def _kubectl(*command: str) -> tuple[list[dict[str, Any]] | None, str]:
    """Objects that kubectl tells of; None, and why, where it tells nothing."""
    if shutil.which("kubectl") is None:
        return None, "kubectl is not here"
    try:
        done = subprocess.run(["kubectl", *command, "-o", "json"], capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        return None, "kubectl gives no answer in 30 s"
    if done.returncode:
        return None, f"kubectl: {(done.stderr.strip().splitlines() or ['no answer'])[-1][:200]}"
    answer = json.loads(done.stdout or '{"items": []}')  # none of the names was found
    return answer.get("items", [answer]), ""  # one object comes without a list


def _amount(quantity: str) -> float:
    """Value of a Kubernetes quantity, such as `15890m`, `64Gi` or `65843212Ki`."""
    number, unit = re.fullmatch(r"([\d.]+(?:[eE]\d+)?)(\D*)", quantity).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]


def _writers(config: RunConfig) -> list[Check]:
    writers = (config.augment_captions.writer, config.revise_captions.writer)
    endpoints = {w.endpoint.base_url: w.endpoint for w in writers if w.backend == "endpoint"}
    if not endpoints:
        return [Check("captions", "ok", "no server writes them: this preset's writer runs in its stage")]
    return [_guarded("captions", partial(_served, endpoint)) for endpoint in endpoints.values()]


def _served(endpoint: EndpointConfig) -> Check:
    key = read_key(endpoint.api_key_variable)
    headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
    url = f"{endpoint.base_url.rstrip('/')}/models"
    try:
        answer = httpx.get(url, headers=headers, timeout=TIMEOUT_S)
    except (httpx.HTTPError, OSError) as error:
        text = f"{url} cannot be reached from this machine ({type(error).__name__}); the pods must reach it"
        return Check("captions", "not checked", text)
    if answer.status_code in (401, 403):
        todo = f"set {endpoint.api_key_variable} (in the cluster, the secret synthio-llm)"
        return Check("captions", "problem", f"{url} answered {answer.status_code}: {todo}")
    try:
        served = [str(row["id"]) for row in answer.raise_for_status().json()["data"]]
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError):
        text = f"{url} answered {answer.status_code} and no list of models; look at its log"
        return Check("captions", "problem", text)
    if endpoint.model not in served:
        text = (
            f"{endpoint.base_url} serves {', '.join(served) or 'nothing'}, not {endpoint.model}: set "
            "augment_captions.writer.endpoint.model and revise_captions.writer.endpoint.model"
        )
        return Check("captions", "problem", text)
    return Check("captions", "ok", f"{endpoint.base_url} serves {endpoint.model}")


def _models(config: RunConfig, profile: Profile, store: str) -> Check:
    if not named_models(config):
        return Check("models", "ok", "this preset needs no published ones")
    if profile.model_cache != "store":
        text = "they lie in the cluster's claim, which this machine does not see; a run begins with a look there"
        return Check("models", "not checked", text)
    if not store.startswith("s3://"):
        return Check("models", "not checked", "name the store with STORE=s3://bucket/prefix")
    missing = missing_models(config, store)
    return Check("models", "problem", "; ".join(missing)) if missing else Check("models", "ok", f"all are in {store}")
