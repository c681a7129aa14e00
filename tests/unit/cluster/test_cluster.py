"""Submitting and scheduling with the real client against a stub of the API."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.errors import ConfigError
from contrib.nightly import CRON, schedule
from pipelines.cluster.api import Cluster, Connection, version_name
from pipelines.commands import main
from pipelines.local.tasks import Stopped
from tests.kit.once import Compiled
from tests.unit.cluster.stub import TOKEN, Stub, connect, serving


@pytest.fixture(autouse=True)
def commands_take_what_is_compiled(compiled: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    def take(target: Path, profile: str = "local", fresh: bool = False, pipeline: str = "synthio") -> Path:
        # A night must be compiled fresh; the synthio pipeline shows what that changes.
        assert fresh or pipeline == "synthio"
        return compiled.path(pipeline, profile, fresh and pipeline == "synthio")

    for command in ("pipelines.commands.run_pipeline", "contrib.nightly"):
        monkeypatch.setattr(f"{command}.compile_pipeline", take)


def test_the_first_submission_uploads_and_the_second_finds_the_same_version(stub: Stub, package: Path) -> None:
    first = connect(stub).version("synthio", package)
    assert connect(stub).version("synthio", package) == first
    assert len(stub.tables["pipelines"]) == 1
    # KFP itself names the version that comes with a new pipeline after the pipeline.
    assert [row["display_name"] for row in stub.tables["versions"].values()] == ["synthio", version_name(package)]


def test_a_version_that_another_client_uploaded_meanwhile_is_found(stub: Stub, package: Path) -> None:
    cluster = connect(stub)
    pipeline_id, version = cluster.version("synthio", package)
    asked: list[str] = []
    found, none = cluster.client.list_pipeline_versions, SimpleNamespace(pipeline_versions=[])
    cluster.client.list_pipeline_versions = lambda *a, **k: found(*a, **k) if asked else asked.append("") or none
    assert cluster.version("synthio", package) == (pipeline_id, version)


@pytest.fixture(params=[False, True], ids=["shared pipelines allowed", "namespace required"])
def shared(request: pytest.FixtureRequest) -> Iterator[Stub]:
    """A server for several users."""
    with serving(multi_user=True, needs_namespace=request.param) as server:
        yield server


def test_each_team_submits_again_and_again_and_has_its_own_pipeline(shared: Stub, package: Path) -> None:
    for _ in range(2):
        for team in ("team-a", "team-b"):
            cluster = connect(shared, namespace=team)
            run_id = cluster.start(cluster.version("synthio", package), "digits", {})
            assert shared.tables["runs"][run_id]["namespace"] == team
    for table, count in (("pipelines", 2), ("experiments", 2), ("versions", 4), ("runs", 4)):
        assert len(shared.tables[table]) == count, table
    assert {row["namespace"] for row in shared.tables["pipelines"].values()} == {"team-a", "team-b"}


def test_a_pipeline_of_the_name_that_all_share_is_left_alone(package: Path) -> None:
    with serving(multi_user=True) as stub:
        stub.new("pipelines", display_name="synthio", namespace="")
        connect(stub, namespace="team-a").version("synthio", package)
        assert [row["namespace"] for row in stub.tables["pipelines"].values()] == ["", "team-a"]


def test_a_pipeline_is_found_among_many(stub: Stub, package: Path) -> None:
    first = connect(stub).version("synthio", package)
    others = {f"other-{n}": {"display_name": f"other-{n}", "namespace": ""} for n in range(300)}
    stub.tables["pipelines"] = {**others, **stub.tables["pipelines"]}
    assert connect(stub).version("synthio", package) == first


def test_each_team_has_its_own_night(shared: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_HOST", shared.url)
    for team in ("team-a", "team-b", "team-a", "team-b"):
        monkeypatch.setenv("KFP_NAMESPACE", team)
        assert main(["schedule-nightly", "--cells", "esc50:100"]) == 0
    rows = list(shared.tables["recurringruns"].values())
    assert sorted((row["namespace"], row["status"]) for row in rows) == [("team-a", "ENABLED"), ("team-b", "ENABLED")]


def test_a_server_for_several_users_needs_a_namespace(shared: Stub) -> None:
    with pytest.raises(ConfigError, match="set KFP_NAMESPACE to your profile's namespace"):
        connect(shared)
    assert {path for _, path, _ in shared.requests} == {"/healthz"}


def test_the_namespace_of_a_server_for_one_user_changes_nothing(stub: Stub, package: Path) -> None:
    first = connect(stub, namespace="team").version("synthio", package)
    assert connect(stub).version("synthio", package) == first


def test_the_namespace_of_a_pod_is_that_of_its_runs(
    shared: Stub, package: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "namespace").write_text("team-a")
    monkeypatch.setattr("kfp.Client._NAMESPACE_PATH", str(tmp_path / "namespace"))
    cluster = connect(shared)
    cluster.start(cluster.version("synthio", package), "digits", {})
    for table in ("pipelines", "experiments", "runs"):
        assert [row["namespace"] for row in shared.tables[table].values()] == ["team-a"]


def test_a_token_in_a_file_is_read_for_each_request(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(file))
    file.write_text("first")
    cluster = Cluster(Connection(stub.url, attempts=1))
    for token in ("first", "second"):
        file.write_text(token)
        cluster.experiment("digits")
        assert stub.requests[-1][2] == f"Bearer {token}"
    assert Cluster(Connection(stub.url, token=TOKEN)).experiment("digits")
    assert stub.requests[-1][2] == f"Bearer {TOKEN}"


def test_every_request_carries_the_token_and_nothing_shows_it(stub: Stub, package: Path) -> None:
    cluster = connect(stub)
    cluster.version("synthio", package)
    assert {token for _, path, token in stub.requests if path != "/healthz"} == {f"Bearer {TOKEN}"}
    assert TOKEN not in repr(cluster.connection)


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
        with pytest.raises(ConfigError, match="KFP_CA"):
            connect(server)
        with pytest.raises(ConfigError, match="KFP_CA"):
            connect(server, namespace="team").experiment("digits")


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


def test_following_tells_the_pipelines_own_tasks_and_none_of_kfps_nodes(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KFP_HOST", stub.url)
    own = ["plan", "synthesize-audio-2", "revise-captions", "Report"]
    internal = ["root", "root-driver", "plan-driver", "plan(0)", "executor", "executor(0)", "iteration-item"]
    stub.nodes, stub.states = [*own, *internal, "self-reflection-round", "synthio"], ["SUCCEEDED"]
    assert main(["run-pipeline", "--preset", "smoke", "--seeds", "1", "--follow"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line for line in told if line.endswith(": succeeded") and not line.startswith("run ")] == [
        f"{name}: succeeded" for name in own
    ]


def test_a_study_of_more_cells_than_one_run_bears_reaches_no_cluster(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KFP_HOST", stub.url)
    assert main(["benchmark", "--datasets", "demo", "--n", "16,24,32,48,64", "--preset", "smoke"]) == 2
    assert main(["schedule-nightly", "--cells", "esc50:50,esc50:100,gtzan:50,gtzan:100,demo:32"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and all("5 in one run, of which Kubeflow bears 4" in line for line in told)
    assert not stub.tables["runs"] and not stub.tables["recurringruns"]


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


def test_who_can_follow_no_longer_is_told_that_the_run_goes_on(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(cluster: Cluster, run_id: str, *_: object, **__: object) -> int:
        stub.faults = [401]
        return cluster.ask(lambda: cluster.client.get_run(run_id)) is None

    monkeypatch.setenv("KFP_HOST", stub.url)
    monkeypatch.setattr(Cluster, "follow", ended)
    assert main(["run-pipeline", "--preset", "smoke", "--seeds", "1", "--follow"]) == 2
    (run_id,) = stub.tables["runs"]
    said = capsys.readouterr().err
    assert (
        "set KFP_TOKEN to a valid token" in said
        and f"the run itself goes on: {stub.url}/#/runs/details/{run_id}" in said
    )


@pytest.mark.parametrize(("signal", "status"), [(KeyboardInterrupt(), 130), (Stopped(15), 143)])
def test_who_stops_following_is_not_told_to_start_the_run_again(
    stub: Stub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, signal: BaseException, status: int
) -> None:
    def stopped(*arguments: object, **options: object) -> int:
        raise signal

    monkeypatch.setenv("KFP_HOST", stub.url)
    monkeypatch.setattr(Cluster, "follow", stopped)
    assert main(["run-pipeline", "--preset", "smoke", "--seeds", "1", "--follow"]) == status
    told = capsys.readouterr().err
    assert "the run itself goes on" in told and "the same command" not in told


def test_a_published_dataset_goes_to_the_cluster_by_its_name_and_files_of_this_machine_do_not(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("KFP_HOST", stub.url)
    monkeypatch.setenv("SYNTHIO_DATA", str(tmp_path))
    assert main(["run-pipeline", "--dataset", "gtzan", "--preset", "smoke"]) == 0
    (run,) = stub.tables["runs"].values()
    assert run["runtime_config"]["parameters"]["dataset"] == "gtzan" and run["display_name"].startswith("gtzan-")
    (tmp_path / "own.yaml").write_text("name: own\nlabels: own.csv\n")
    assert main(["run-pipeline", "--dataset", str(tmp_path / "own.yaml"), "--preset", "smoke"]) == 2
    assert "make push-data DATASET=" in capsys.readouterr().err and len(stub.tables["runs"]) == 1


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
    assert {"synthio", version_name(cached), version_name(fresh)} == names


def test_the_profile_of_this_machine_is_refused_on_a_cluster(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KFP_HOST", stub.url)
    assert main(["run-pipeline", "--profile", "local"]) == 2
    assert "PROFILE=one-gpu" in capsys.readouterr().err and not stub.tables["runs"]
