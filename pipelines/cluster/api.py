"""Client of a Kubeflow Pipelines API: upload a pipeline, start a run, follow it (`KFP_HOST=… make run-pipeline`)."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from common.errors import ConfigError, StorageError
from pipelines.sources import ROOT

ENDED = {"SUCCEEDED": 0, "SKIPPED": 0, "FAILED": 1, "CANCELED": 1, "CANCELLED": 1}
"""Final states of a run, with their exit status."""

T = TypeVar("T")


@dataclass(frozen=True)
class Connection:
    """Address and credentials of the API; never stored.

    Attributes:
        host: URL of the API, from KFP_HOST.
        namespace: namespace in a multi-user installation, from KFP_NAMESPACE.
        token: bearer token, from KFP_TOKEN; None = kfp's own methods, such as a projected service account token.
        ca_file: certificate authority of the host, from KFP_CA.
        timeout_s: timeout of one request.
        attempts: attempts of one request when the server fails or does not answer.
    """

    host: str
    namespace: str | None = None
    token: str | None = None
    ca_file: str | None = None
    timeout_s: float = 60.0
    attempts: int = 4

    @classmethod
    def from_environment(cls) -> Connection | None:
        """Connection from KFP_HOST, KFP_NAMESPACE, KFP_TOKEN and KFP_CA; None without KFP_HOST."""
        host = os.environ.get("KFP_HOST")
        if not host:
            return None
        names = ("KFP_NAMESPACE", "KFP_TOKEN", "KFP_CA")
        namespace, token, ca_file = (os.environ.get(name) or None for name in names)
        return cls(host, namespace, token, ca_file)

    def __repr__(self) -> str:
        return f"Connection({self.host}, namespace={self.namespace})"


class Cluster:
    """Client of a Kubeflow Pipelines API.

    Args:
        connection: address and credentials.

    Attributes:
        client: kfp's client, with a timeout for every request.

    Raises:
        ConfigError: the API refuses.
        StorageError: the API does not answer.
    """

    def __init__(self, connection: Connection) -> None:
        from kfp import Client

        self.connection = connection
        namespace = {"namespace": connection.namespace} if connection.namespace else {}
        # The client's constructor asks the server about multi-user mode, so it can fail too.
        self.client = self.ask(
            lambda: Client(
                host=connection.host, existing_token=connection.token, ssl_ca_cert=connection.ca_file, **namespace
            )
        )
        clients = {
            id(api.api_client): api.api_client for api in vars(self.client).values() if hasattr(api, "api_client")
        }
        for api_client in clients.values():
            _limit(api_client.rest_client, connection.timeout_s)

    def version(self, name: str, package: Path) -> tuple[str, str]:
        """Upload the compiled pipeline `package` as a version of pipeline `name`, unless that version exists.

        Returns:
            Ids of the pipeline and of the version; `version_name` names the version.
        """
        version = version_name(package)
        pipeline_id = self.ask(lambda: self.client.get_pipeline_id(name))
        if pipeline_id is None:
            pipeline = self.ask(
                lambda: self.client.upload_pipeline(
                    str(package), pipeline_name=name, namespace=self.connection.namespace
                ),
                conflict=lambda: None,
            )
            pipeline_id = pipeline.pipeline_id if pipeline else self.ask(lambda: self.client.get_pipeline_id(name))
        found = self._find_version(pipeline_id, version)
        if found is None:
            uploaded = self.ask(
                lambda: self.client.upload_pipeline_version(str(package), version, pipeline_id=pipeline_id),
                conflict=lambda: None,
            )
            found = uploaded.pipeline_version_id if uploaded else self._find_version(pipeline_id, version)
        if found is None:
            raise ConfigError(f"{self.connection.host}: version {version} of {name} is neither there nor accepted")
        return pipeline_id, found

    def _find_version(self, pipeline_id: str, name: str) -> str | None:
        equals = {"predicates": [{"operation": "EQUALS", "key": "name", "stringValue": name}]}
        answer = self.ask(
            lambda: self.client.list_pipeline_versions(pipeline_id, page_size=100, filter=json.dumps(equals))
        )
        rows = answer.pipeline_versions or []
        return next((row.pipeline_version_id for row in rows if row.display_name == name), None)

    def start(self, pipeline: tuple[str, str], experiment: str, params: dict[str, Any], root: str | None = None) -> str:
        """Start a run and return its id.

        Args:
            pipeline: ids from `version`.
            experiment: name of the experiment; created when absent.
            params: the pipeline's parameters.
            root: root of the artifacts; None = the API's default.
        """
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
        experiment_id = self.experiment(experiment)
        run = self.ask(
            lambda: self.client.run_pipeline(
                experiment_id,
                f"{experiment}-{stamp}",
                params=params,
                pipeline_id=pipeline[0],
                version_id=pipeline[1],
                pipeline_root=root,
                enable_caching=True,
            ),
            # Never retried: the first request may have succeeded, and a second one would start a second run.
            attempts=1,
        )
        return str(run.run_id)

    def experiment(self, name: str) -> str:
        """Id of the experiment `name`, which is created when absent."""
        made = self.ask(lambda: self.client.create_experiment(name, namespace=self.connection.namespace))
        return str(made.experiment_id)

    def url(self, run_id: str) -> str:
        """URL of a run's page."""
        return f"{self.connection.host.rstrip('/')}/#/runs/details/{run_id}"

    def follow(self, run_id: str, tell: Callable[[str], None], every_s: float = 15.0) -> int:
        """Wait until a run ends, report changes of its tasks' states, and return the exit status of its final state.

        Args:
            run_id: id from `start`.
            tell: receives one line per change.
            every_s: seconds between two requests.
        """
        last: dict[str, str] = {}
        while True:
            run = self.ask(lambda: self.client.get_run(run_id))
            for task in (run.run_details.task_details if run.run_details else None) or []:
                name, state = task.display_name, task.state or ""
                if last.get(task.task_id) != state:
                    last[task.task_id] = state
                    tell(f"{name}: {state.lower()}")
            if run.state in ENDED:
                tell(f"run {run_id}: {run.state.lower()}")
                return ENDED[run.state]
            time.sleep(every_s)

    def ask(self, request: Callable[[], T], conflict: Callable[[], T] | None = None, attempts: int | None = None) -> T:
        """Send a request, with retries while the server fails or does not answer.

        Args:
            request: one call of the client.
            conflict: returns the result when the server answers that the object exists (409).
            attempts: default: the connection's; 1 for requests that must not be repeated.

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
            stop=stop_after_attempt(attempts or self.connection.attempts),
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
            raise StorageError(
                f"no answer from {self.connection.host} after {attempts or self.connection.attempts} attempts "
                f"({type(error).__name__}); check KFP_HOST, the port-forward and the network, then run it again"
            ) from error

    def _refused(self, error: Any) -> ConfigError:
        todo = {
            401: "set KFP_TOKEN to a valid token (kubectl create token synthio-submitter -n <namespace>)",
            403: "give the account the role of manifests/base/service-account.yaml in KFP_NAMESPACE",
            404: "check that KFP_HOST is the API's address, and its path",
        }.get(error.status, "look at the log of ml-pipeline, the API server")
        said = re.sub(r"\s+", " ", str(error.body or error.reason or ""))[:200]
        return ConfigError(f"{self.connection.host} answered {error.status}: {said}; {todo}")


def _limit(rest_client: Any, timeout_s: float) -> None:
    """Give every request a timeout; the generated client has none unless a call names one."""
    request = rest_client.request

    def limited(*arguments: Any, **options: Any) -> Any:
        options["_request_timeout"] = options.get("_request_timeout") or (timeout_s, timeout_s)
        return request(*arguments, **options)

    rest_client.request = limited
    rest_client.pool_manager.connection_pool_kw["retries"] = False
    rest_client.pool_manager.clear()  # open connections keep the old settings


def version_name(package: Path) -> str:
    """Version name `git-<commit>-<hash of the compiled file>`; equal files of one commit get equal names."""
    digest = hashlib.sha256(package.read_bytes()).hexdigest()[:8]
    found = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    commit = found.stdout.strip() if found.returncode == 0 else "none"
    return f"git-{commit}-{digest}"
