"""Submitting and scheduling with the real client against a stub of the API."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import ConfigError, StorageError
from pipelines.cluster.api import Cluster, Connection, version_name
from pipelines.commands import main
from pipelines.commands.schedule_nightly import CRON, schedule
from tests.kit.once import Compiled
from tests.unit.cluster.stub import Stub, serving

TOKEN = "canary-token-5c1e"


@pytest.fixture()
def stub() -> Iterator[Stub]:
    with serving() as server:
        yield server


@pytest.fixture
def package(compiled: Compiled) -> Path:
    return compiled.path()


@pytest.fixture(autouse=True)
def commands_take_what_is_compiled(compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    def take(target: Path, profile: str = "local", fresh: bool = False, pipeline: str = "synthio") -> Path:
        # A night must be compiled fresh; the synthio pipeline shows what that changes.
        assert fresh or pipeline == "synthio"
        return compiled.path(pipeline, profile, fresh and pipeline == "synthio")

    for command in ("run_pipeline", "schedule_nightly"):
        monkeypatch.setattr(f"pipelines.commands.{command}.compile_pipeline", take)


def connect(stub: Stub, timeout_s: float = 10.0, **fields: object) -> Cluster:
    return Cluster(Connection(stub.url, token=TOKEN, timeout_s=timeout_s, attempts=3, **fields))  # type: ignore[arg-type]


def test_the_first_submission_uploads_and_the_second_finds_the_same_version(stub: Stub, package: Path) -> None:
    first = connect(stub).version("synthio", package)
    assert connect(stub).version("synthio", package) == first
    assert len(stub.tables["pipelines"]) == len(stub.tables["versions"]) == 1


def test_a_version_that_another_client_uploaded_meanwhile_is_found(stub: Stub, package: Path) -> None:
    cluster = connect(stub)
    pipeline_id, version = cluster.version("synthio", package)
    asked: list[str] = []
    found = cluster._find_version
    cluster._find_version = lambda *a: found(*a) if asked else asked.append("") or None  # type: ignore[method-assign, func-returns-value]
    assert cluster.version("synthio", package) == (pipeline_id, version)


def test_every_request_carries_the_token_and_nothing_shows_it(stub: Stub, package: Path) -> None:
    cluster = connect(stub)
    cluster.version("synthio", package)
    assert {token for _, path, token in stub.requests if path != "/healthz"} == {f"Bearer {TOKEN}"}
    assert TOKEN not in repr(cluster.connection)


def test_experiments_are_made_in_the_namespace_of_the_connection(stub: Stub) -> None:
    connect(stub, namespace="team").experiment("digits")
    (made,) = stub.tables["experiments"].values()
    assert (made["display_name"], made["namespace"]) == ("digits", "team")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_certificate_is_accepted_by_the_authority_that_is_named_and_by_no_other(tmp_path: Path) -> None:
    certificate, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    make += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(make, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with serving(tls) as server:
        assert connect(server, ca_file=str(certificate)).experiment("digits")
        with pytest.raises(StorageError, match="no answer"):
            connect(server)


def test_the_connection_is_what_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KFP_HOST", raising=False)
    assert Connection.from_environment() is None
    for name in ("HOST", "NAMESPACE", "TOKEN", "CA"):
        monkeypatch.setenv(f"KFP_{name}", name.lower())
    assert Connection.from_environment() == Connection("host", "namespace", "token", "ca")


def test_a_run_is_started_once_in_the_datasets_experiment_with_its_parameters(stub: Stub, package: Path) -> None:
    cluster = connect(stub)
    run_id = cluster.start(cluster.version("synthio", package), "gtzan", {"preset": "tiny", "seeds": 3})
    (run,) = stub.tables["runs"].values()
    assert run["runtime_config"]["parameters"] == {"preset": "tiny", "seeds": 3}
    assert next(iter(stub.tables["experiments"].values()))["display_name"] == "gtzan"
    assert cluster.url(run_id).endswith(f"/#/runs/details/{run_id}")


@pytest.mark.parametrize(("states", "status"), [(["RUNNING", "SUCCEEDED"], 0), (["FAILED"], 1), (["CANCELED"], 1)])
def test_following_ends_with_the_runs_status(stub: Stub, package: Path, states: list[str], status: int) -> None:
    cluster, said = connect(stub), list[str]()
    run_id = cluster.start(cluster.version("synthio", package), "demo", {})
    stub.states = states
    assert cluster.follow(run_id, said.append, every_s=0.01) == status
    assert said[-1].endswith(states[-1].lower())


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


def test_a_server_that_never_answers_is_given_up_after_the_attempts(stub: Stub) -> None:
    cluster = connect(stub, timeout_s=0.5)
    stub.faults, stub.hang_s = ["hang"] * 10, 0.8
    with pytest.raises(StorageError, match="3 attempts"):
        cluster.experiment("demo")


def test_starting_a_run_is_never_sent_twice(stub: Stub, package: Path) -> None:
    cluster = connect(stub)
    pipeline = cluster.version("synthio", package)
    cluster.experiment("demo")
    before = len([1 for method, path, _ in stub.requests if (method, path) == ("POST", "/runs")])
    asked = cluster.experiment
    cluster.experiment = lambda name: (asked(name), stub.faults.append(500))[0]  # type: ignore[method-assign, func-returns-value]
    with pytest.raises(ConfigError, match="500"):
        cluster.start(pipeline, "demo", {})
    assert len([1 for method, path, _ in stub.requests if (method, path) == ("POST", "/runs")]) == before + 1


def test_scheduling_twice_leaves_one_enabled_recurring_run(stub: Stub, package: Path) -> None:
    cluster = connect(stub)
    pipeline = cluster.version("benchmark", package)
    schedule(cluster, pipeline, {"n": 100})
    new = schedule(cluster, pipeline, {"n": 50})
    ((identity, row),) = stub.tables["recurringruns"].items()
    assert identity == new and row["status"] == "ENABLED"
    assert row["trigger"]["cron_schedule"]["cron"] == CRON and len(CRON.split()) == 6
    assert row["max_concurrency"] == 1 and row["no_catchup"] is True


def test_the_command_schedules_the_study_once_however_often_it_is_given(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KFP_HOST", stub.url)
    for _ in range(2):
        assert main(["schedule-nightly", "--cells", "esc50:100,s3://data/birds.yaml:50"]) == 0
    ((identity, row),) = stub.tables["recurringruns"].items()
    parameters = row["runtime_config"]["parameters"]
    assert json.loads(parameters["cells"]) == [
        {"dataset": "esc50", "n": 100},
        {"dataset": "s3://data/birds.yaml", "n": 50},
    ]
    assert row["status"] == "ENABLED" and parameters["preset"] == "small"
    assert identity in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cells", "esc50"], "expected dataset:n"),
        (["--cells", ""], "CELLS is empty"),
        (["--cells", "esc50:100", "--profile", "local"], "is for this machine"),
        (["--cells", "esc50:100", "--preset", "large"], "large"),
    ],
)
def test_a_wrong_schedule_reaches_no_cluster(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    monkeypatch.setenv("KFP_HOST", stub.url)
    assert main(["schedule-nightly", *arguments]) == 2 and message in capsys.readouterr().err
    assert not stub.tables["recurringruns"]


def test_the_version_name_is_of_the_commit_and_the_content(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("a")
    second.write_text("b")
    assert version_name(first) == version_name(first) != version_name(second)
    assert version_name(first).startswith("git-")


@pytest.mark.parametrize(("state", "status"), [("SUCCEEDED", 0), ("FAILED", 1)])
def test_run_pipeline_with_a_host_submits_follows_and_exits_with_the_runs_status(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: str, status: int
) -> None:
    monkeypatch.setenv("KFP_HOST", stub.url)
    monkeypatch.setenv("KFP_TOKEN", TOKEN)
    stub.states = [state]
    assert main(["run-pipeline", "--preset", "smoke", "--seeds", "1", "--follow"]) == status
    (run,) = stub.tables["runs"].values()
    assert run["runtime_config"]["parameters"]["preset"] == "smoke"
    said = capsys.readouterr()
    assert f"{stub.url}/#/runs/details/" in said.out and TOKEN not in said.out + said.err


def test_a_fresh_run_is_of_a_version_in_which_no_task_is_cached(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], compiled: Compiled
) -> None:
    monkeypatch.setenv("KFP_HOST", stub.url)
    stub.states = ["FAILED"]
    assert main(["run-pipeline", "--preset", "smoke", "--seeds", "1", "--follow"]) == 1
    assert "FRESH=1" in capsys.readouterr().out
    assert main(["run-pipeline", "--preset", "smoke", "--seeds", "1", "--follow", "--fresh"]) == 1
    assert "FRESH=1" not in capsys.readouterr().out
    cached, fresh = (compiled.path(profile="one-gpu", fresh=flag) for flag in (False, True))
    assert cached.read_text().count("enableCache: true") > 16 and "enableCache" not in fresh.read_text()
    names = {value["display_name"] for value in stub.tables["versions"].values()}
    assert {version_name(cached), version_name(fresh)} == names


def test_the_profile_of_this_machine_is_refused_on_a_cluster(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KFP_HOST", stub.url)
    assert main(["run-pipeline", "--profile", "local"]) == 2
    assert "PROFILE=one-gpu" in capsys.readouterr().err and not stub.tables["runs"]
