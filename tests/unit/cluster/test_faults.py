"""Faults and refusals of the API, met by the real client: what is asked again, and what the user is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import ConfigError, StorageError
from pipelines.cluster.api import Cluster, Connection
from tests.unit.cluster.stub import Stub, connect


@pytest.mark.parametrize("fault", [500, 503, 429, "drop", "hang"])
def test_a_passing_fault_is_asked_again(stub: Stub, package: Path, fault: int | str) -> None:
    cluster = connect(stub, timeout_s=0.5 if fault == "hang" else 10.0)
    stub.faults = [fault]
    stub.hang_s = 0.8
    assert cluster.version("synthio", package)[0] in stub.tables["pipelines"]


def test_a_refused_token_is_not_asked_again_and_the_message_says_what_to_set(stub: Stub) -> None:
    cluster = connect(stub)
    before, stub.faults = len(stub.requests), [401] * 5
    with pytest.raises(ConfigError, match="KFP_TOKEN"):
        cluster.experiment("demo")
    assert len(stub.requests) == before + 1


AUDIENCE = "kubectl create token synthio-submitter -n team --audience pipelines.kubeflow.org"


@pytest.mark.parametrize(
    ("fault", "body", "messages"),
    [
        (401, "Request header error: there is no user identity header.", ["set KFP_TOKEN to a valid token", AUDIENCE]),
        (403, "RBAC: access denied", ["give the account the role of", "the gateway's audience", AUDIENCE]),
        (400, "Pipeline upload authentication failed.", ["answered 400", "set KFP_TOKEN to a valid token", AUDIENCE]),
        (
            400,
            "Failed to create a pipeline due to authorization error: PermissionDenied",
            ["give the account the role of"],
        ),
        (400, "invalid argument", ["answered 400", "look at the log of ml-pipeline"]),
        (302, "Found", ["answered 302", "a gateway that asks for a sign-in", "/pipeline at its end"]),
        ("page", "", ["answered with a page", "a gateway that asks for a sign-in"]),
        (404, "page not found", ["the API's address, and its path"]),
    ],
)
def test_who_is_refused_is_told_what_to_do(stub: Stub, fault: int | str, body: str, messages: list[str]) -> None:
    cluster = connect(stub, namespace="team")
    stub.faults, stub.said = [fault], body
    with pytest.raises(ConfigError) as refused:
        cluster.experiment("demo")
    assert all(message in str(refused.value) for message in messages), refused.value


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [(401, ConfigError, "KFP_TOKEN"), ("page", ConfigError, "a page"), ("hang", StorageError, "2 attempts")],
)
def test_a_server_that_fails_before_anything_is_asked_is_told_soon(
    stub: Stub, fault: int | str, error: type[Exception], message: str
) -> None:
    stub.faults, stub.unwell, stub.hang_s = [fault] * 10, True, 0.8
    with pytest.raises(error, match=message):
        Cluster(Connection(stub.url, attempts=2, timeout_s=0.5 if fault == "hang" else 10.0))
    assert len(stub.faults) >= 7


def test_a_server_that_never_answers_is_given_up_after_the_attempts(stub: Stub) -> None:
    cluster = connect(stub, timeout_s=0.5)
    stub.faults, stub.hang_s = ["hang"] * 10, 0.8
    with pytest.raises(StorageError, match="3 attempts"):
        cluster.experiment("demo")


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [(500, ConfigError, "500"), ("hang", StorageError, "1 attempts.*whether it began all the same, then")],
)
def test_starting_a_run_is_never_sent_twice(
    stub: Stub, package: Path, fault: int | str, kind: type[Exception], said: str
) -> None:
    cluster = connect(stub, timeout_s=0.5)
    stub.hang_s = 0.8
    pipeline = cluster.version("synthio", package)
    cluster.experiment("demo")
    before = len([1 for method, path, _ in stub.requests if (method, path) == ("POST", "/runs")])
    asked = cluster.experiment
    cluster.experiment = lambda name: (asked(name), stub.faults.append(fault))[0]  # type: ignore[method-assign, func-returns-value]
    with pytest.raises(kind, match=said):
        cluster.start(pipeline, "demo", {})
    assert len([1 for method, path, _ in stub.requests if (method, path) == ("POST", "/runs")]) == before + 1


def test_an_api_that_is_restarted_meanwhile_does_not_end_the_following(stub: Stub, package: Path) -> None:
    cluster = connect(stub, timeout_s=0.2)
    run_id = cluster.start(cluster.version("synthio", package), "demo", {})
    stub.states, stub.faults = ["RUNNING", "SUCCEEDED"], [503, "drop"] * 3
    assert cluster.follow(run_id, lambda line: None, every_s=0.01) == 0
    stub.faults = ["drop"] * 99
    with pytest.raises(StorageError, match=r"after \d+ attempts"):
        cluster.follow(run_id, lambda line: None, every_s=0.01, patience_s=0.3)
    assert 3 < 99 - len(stub.faults) < 30
