"""Client of a Kubeflow Pipelines API: upload a pipeline, start a run, follow it (`KFP_HOST=… make run-pipeline`)."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import ssl
import sys
import time
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import yaml
from tenacity import (
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    stop_all,
    wait_random_exponential,
)

from common.errors import ConfigError, StorageError, SynthioError
from pipelines.cluster.placement import load_profile
from pipelines.sources import commit

ENDED = {"SUCCEEDED": 0, "SKIPPED": 0, "FAILED": 1, "CANCELED": 1, "CANCELLED": 1}
"""Final states of a run, with their exit status."""
MINIMUM = (2, 16)
"""First version of KFP that takes the compiled files and applies all that they say; docs/OPERATIONS.md states it."""
SUBMITTER = "synthio-submitter"
AUDIENCE = "pipelines.kubeflow.org"
"""Audience that KFP asks of a Kubernetes token; one that `kubectl create token` makes without it is refused."""
SIGN_IN = (
    "behind a gateway that asks for a sign-in, set KFP_TOKEN to a token that it takes; KFP_HOST must be the API's "
    "address, behind Kubeflow's gateway with /pipeline at its end"
)

T = TypeVar("T")
DEFAULT_PROFILE = "one-gpu"


@dataclass(frozen=True)
class Connection:
    """Address and credentials of the API; never stored."""

    host: str
    namespace: str | None = None
    """Namespace in a multi-user installation, from KFP_NAMESPACE."""
    token: str | None = field(default=None, repr=False)
    """Bearer token, from KFP_TOKEN; None = the one in the file that KF_PIPELINES_SA_TOKEN_PATH names, read for each
    request, else none."""
    ca_file: str | None = None
    """Certificate authority of the host, from KFP_CA."""
    timeout_s: float = 60.0
    attempts: int = 4
    """Attempts of one request when the server fails or does not answer."""

    @classmethod
    def from_environment(cls) -> Connection | None:
        """Connection from KFP_HOST, KFP_NAMESPACE, KFP_TOKEN and KFP_CA; None without KFP_HOST."""
        host = os.environ.get("KFP_HOST")
        if not host:
            return None
        names = ("KFP_NAMESPACE", "KFP_TOKEN", "KFP_CA")
        namespace, token, ca_file = (os.environ.get(name) or None for name in names)
        return cls(host, namespace, token, ca_file)


class Cluster:
    """Client of a Kubeflow Pipelines API.

    Attributes:
        client: kfp's client, with a timeout for every request.
        namespace: namespace of everything that is looked for and made: the connection's, else in a pod the
            pod's own; None = an installation for one user.

    Raises:
        ConfigError: the API refuses, or serves several users and there is no namespace.
        StorageError: the API does not answer.
    """

    def __init__(self, connection: Connection) -> None:
        from kfp import Client
        from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, ServiceAccountTokenVolumeCredentials

        class Asking(Client):  # type: ignore[misc]  # kfp has no types
            """Its constructor asks nothing: it would without a timeout, and keep the answer in the home folder."""

            def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:
                return SimpleNamespace(multi_user=False)

        self.connection = connection
        chosen: dict[str, Any] = {"namespace": connection.namespace} if connection.namespace else {}
        if connection.token is None and os.environ.get(KF_PIPELINES_SA_TOKEN_ENV):
            chosen["credentials"] = ServiceAccountTokenVolumeCredentials()
        self.client = Asking(
            host=connection.host, existing_token=connection.token, ssl_ca_cert=connection.ca_file, **chosen
        )
        clients = {each.api_client for each in vars(self.client).values() if hasattr(each, "api_client")}
        for client in clients:
            _limit(client.rest_client, connection)
        self.namespace = connection.namespace
        if self.namespace is None and self.health().get("multi_user"):
            own = Path(Client._NAMESPACE_PATH)
            if not own.is_file():
                text = f"{connection.host} serves several users: set KFP_NAMESPACE to your profile's namespace"
                raise ConfigError(text)
            self.namespace = own.read_text(encoding="utf-8").strip()

    def health(self) -> dict[str, Any]:
        """What the API says of itself: `multi_user`, and its version as `tag_name`, which the client leaves out."""
        answer = self.ask(lambda: self.client._healthz_api.healthz_service_get_healthz(_preload_content=False))
        return dict(json.loads(answer.data))

    def version(self, name: str, package: Path) -> tuple[str, str]:
        """Upload the compiled pipeline `package` as a version of pipeline `name`, unless that version exists.

        Returns ids of the pipeline and of the version; `version_name` names the version.
        """
        client, file, version = self.client, str(package), version_name(package)
        place = f" in {self.namespace}" if self.namespace else ""
        # The client's get_pipeline_id looks among shared pipelines only, never in a namespace.
        pipeline_id = self._found_or_made(
            f"pipeline {name}{place}",
            lambda: client.list_pipelines(page_size=100, namespace=self.namespace, filter=with_name(name)).pipelines,
            lambda: client.upload_pipeline(file, pipeline_name=name, namespace=self.namespace),
        ).pipeline_id
        made = self._found_or_made(
            f"version {version} of {name}",
            lambda: (
                client.list_pipeline_versions(pipeline_id, page_size=100, filter=with_name(version)).pipeline_versions
            ),
            lambda: client.upload_pipeline_version(file, version, pipeline_id=pipeline_id),
        )
        return str(pipeline_id), str(made.pipeline_version_id)

    def _found_or_made(self, what: str, find: Callable[[], list[Any] | None], upload: Callable[[], Any]) -> Any:
        """The row of a list request, else what an upload makes; another client may upload the same meanwhile."""
        rows = self.ask(find)
        if not rows:
            made = self.ask(upload, conflict=lambda: None)
            rows = [made] if made else self.ask(find)
        if not rows:
            raise ConfigError(f"{self.connection.host}: {what} is neither there nor accepted")
        return rows[0]

    def start(self, pipeline: tuple[str, str], experiment: str, params: dict[str, Any]) -> str:
        """Start a run and return its id."""
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
        experiment_id = self.experiment(experiment)
        run = self.ask(
            lambda: self.client.run_pipeline(
                experiment_id,
                f"{experiment}-{stamp}",
                params=params,
                pipeline_id=pipeline[0],
                version_id=pipeline[1],
                enable_caching=True,
            ),
            # Never retried: the first request may have succeeded, and a second one would start a second run.
            attempts=1,
        )
        return str(run.run_id)

    def experiment(self, name: str) -> str:
        """Id of the experiment `name`, which is created when absent."""
        made = self.ask(lambda: self.client.create_experiment(name, namespace=self.namespace))
        return str(made.experiment_id)

    def url(self, run_id: str) -> str:
        """URL of a run's page."""
        return f"{self.connection.host.rstrip('/')}/#/runs/details/{run_id}"

    def follow(
        self,
        run_id: str,
        tell: Callable[[str], None],
        every_s: float = 15.0,
        tasks: Container[str] | None = None,
        patience_s: float = 600.0,
    ) -> int:
        """Wait until a run ends, report changes of its tasks' states, and return the exit status of its final state.

        Args:
            every_s: seconds between two requests.
            tasks: names of the pipeline's own tasks; KFP also lists its drivers and attempts. None = tell all.
            patience_s: seconds in which the API may be away, as while it is restarted.
        """
        last: dict[str, str] = {}
        while True:
            run = self.ask(lambda: self.client.get_run(run_id), patience_s=patience_s)
            for task in (run.run_details.task_details if run.run_details else None) or []:
                name, state = task.display_name, task.state or ""
                if tasks is not None and name not in tasks:
                    continue
                if last.get(task.task_id) != state:
                    last[task.task_id] = state
                    tell(f"{name}: {state.lower()}")
            if run.state in ENDED:
                tell(f"run {run_id}: {run.state.lower()}")
                return ENDED[run.state]
            time.sleep(every_s)

    def ask(
        self,
        request: Callable[[], T],
        conflict: Callable[[], T] | None = None,
        attempts: int | None = None,
        patience_s: float = 0.0,
    ) -> T:
        """Send a request, with retries while the server fails or does not answer.

        Args:
            conflict: returns the result when the server answers that the object exists (409).
            attempts: default: the connection's; 1 for requests that must not be repeated.
            patience_s: seconds in which it is sent again even after these attempts.

        Raises:
            ConfigError: the server refuses; the message says what to do.
            StorageError: the server does not answer.
        """
        import urllib3
        from kfp_server_api import ApiException

        def passing(error: BaseException) -> bool:
            if isinstance(error, ApiException):
                return error.status in (0, 429) or (error.status or 0) >= 500
            return isinstance(error, (urllib3.exceptions.HTTPError, OSError))

        retrying = Retrying(
            retry=retry_if_exception(passing),
            stop=stop_all(stop_after_attempt(attempts or self.connection.attempts), stop_after_delay(patience_s)),
            wait=wait_random_exponential(multiplier=min(1.0, self.connection.timeout_s / 10), max=30),
            reraise=True,
        )
        try:
            return retrying(request)
        except ApiException as error:
            if error.status == 409 and conflict is not None:
                return conflict()
            raise self._refused(error) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            begun = "" if attempts is None else "look in the UI whether it began all the same, "
            raise StorageError(
                f"no answer from {self.connection.host} after {retrying.statistics['attempt_number']} attempts "
                f"({type(error).__name__}); check KFP_HOST, the port-forward and the network, {begun}then run it again"
            ) from error

    def _refused(self, error: Any) -> ConfigError:
        said = re.sub(r"\s+", " ", str(error.body or error.reason or ""))
        kind = 302 if 300 <= error.status < 400 else error.status
        if kind == 400:  # so answers an upload where other requests answer 401 or 403
            kind = 401 if "uthenticat" in said else 403 if re.search("uthoriz|denied", said) else 400
        namespace = self.connection.namespace or "<namespace>"
        token = f"kubectl create token {SUBMITTER} -n {namespace} --audience {AUDIENCE}"
        todo = {
            302: SIGN_IN,
            401: f"set KFP_TOKEN to a valid token: {token}; a gateway before KFP may want another audience",
            403: "give the account the role of manifests/base/service-account.yaml in KFP_NAMESPACE; if a gateway "
            f"before KFP refuses, set KFP_TOKEN to a token of the gateway's audience (KFP's own: {token})",
            404: "check that KFP_HOST is the API's address, and its path",
        }.get(kind, "look at the log of ml-pipeline, the API server")
        return ConfigError(f"{self.connection.host} answered {error.status}: {said[:200]}; {todo}")


def with_name(name: str) -> str:
    """Filter of a list request: the rows that are called `name`."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _limit(rest_client: Any, connection: Connection) -> None:
    """Give every request a timeout, and refuse a wrong certificate, and a page in an answer's place.

    The generated client has no timeout unless a call names one, fails in handling its own TLS errors, and makes an
    empty object of an answer that is no JSON.
    """
    from kfp_server_api import ApiException

    request, timeout_s = rest_client.request, connection.timeout_s

    def limited(*arguments: Any, **options: Any) -> Any:
        options["_request_timeout"] = options.get("_request_timeout") or (timeout_s, timeout_s)
        try:
            answer = request(*arguments, **options)
        except ApiException as error:
            if error.status:
                raise
            if "CERTIFICATE_VERIFY_FAILED" not in str(error.reason):
                raise ssl.SSLError(error.reason) from error
            text = f"{connection.host}: the certificate is of an authority unknown here, or of another name"
            raise ConfigError(f"{text}; name the file of its authority in KFP_CA, or correct KFP_HOST") from error
        if answer.data.strip()[:1] not in (b"{", b"[", b""):
            raise ConfigError(f"{connection.host} answered with a page, not with the API of KFP; {SIGN_IN}")
        return answer

    rest_client.request = limited
    rest_client.pool_manager.connection_pool_kw["retries"] = False
    rest_client.pool_manager.clear()  # open connections keep the old settings


def version_name(package: Path) -> str:
    """Version name `git-<commit>-<hash of the compiled file>`; equal files of one commit get equal names."""
    digest = hashlib.sha256(package.read_bytes()).hexdigest()[:8]
    return f"git-{commit('--short=12') or 'none'}-{digest}"


def cluster_profile(name: str) -> str:
    """Return the profile's name, or the default one for an empty name.

    Raises ConfigError: the profile is unknown, or for this machine only.
    """
    profile = name or DEFAULT_PROFILE
    if not load_profile(profile).cluster:
        raise ConfigError(f"profile {profile} is for this machine, but KFP_HOST is set: unset it, or PROFILE=one-gpu")
    return profile


def task_names(package: Path) -> set[str]:
    """Names and titles of the tasks of a compiled pipeline that run a stage."""
    spec = next(yaml.load_all(package.read_text(encoding="utf-8"), yaml.CSafeLoader))
    names = set()
    for part in (spec["root"], *spec["components"].values()):
        for name, task in part.get("dag", {}).get("tasks", {}).items():
            if "executorLabel" in spec["components"][task["componentRef"]["name"]]:
                names |= {name, task["taskInfo"]["name"]}
    return names


def submit(
    cluster: Cluster,
    pipeline: str,
    package: Path,
    experiment: str,
    arguments: dict[str, Any],
    follow: bool,
    fresh: bool = False,
) -> int:
    """Start a run, print the URL of its page, and with `follow` wait until it ends.

    After a failure a hint is printed, unless the package was compiled `fresh`, without caching.

    Returns 0, or with `follow` the exit status of the run. Raises as `Cluster.ask`.
    """
    run_id = cluster.start(cluster.version(pipeline, package), experiment, arguments)
    print(f"run: {cluster.url(run_id)}", flush=True)
    status, goes_on = 0, f"the run itself goes on: {cluster.url(run_id)}"
    if follow:
        try:
            status = cluster.follow(run_id, lambda line: print(line, flush=True), tasks=task_names(package))
        except SynthioError as error:
            raise type(error)(f"{error}; {goes_on}") from error
        except KeyboardInterrupt as stopped:
            print(f"no longer followed; {goes_on}", file=sys.stderr)
            return getattr(stopped, "status", 130)
    if status and not fresh:
        print("if a task lacks an input that is gone from the store: the same command with FRESH=1 makes it anew")
    return status
