"""`make doctor` with KFP_HOST: each part is told apart as fine, wrong, or not to be seen from here."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from common.config.run import load_preset, with_llm_endpoint
from components.catalogue import LAYERS
from pipelines.cluster import doctor
from pipelines.cluster.api import Connection
from pipelines.cluster.doctor import examine_cluster
from pipelines.cluster.placement import Profile, load_profile
from pipelines.commands import main
from tests.kit.s3_server import BUCKET, s3_server
from tests.kit.smoke import write_dataset
from tests.unit.cluster.stub import serving

Answers = dict[str, tuple[int, dict[str, str], Any]]


@contextmanager
def answering(answers: Answers) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A server that gives fixed answers by the longest fitting start of the path; its address and what it was asked."""
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            asked.append((self.path, self.headers.get("Authorization")))
            fitting = [start for start in answers if self.path.startswith(start)]
            status, headers, body = answers[max(fitting, key=len)] if fitting else (404, {}, {})
            if status == 401 and self.headers.get("Authorization") == "Bearer given":
                status = 200
            self.send_response(status)
            data = b"" if self.command == "HEAD" else json.dumps(body).encode()
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_HEAD = _handle

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)


def states(
    profile: Profile, preset: str = "smoke", host: str = "", store: str = "", llm: str = "", timeout_s: float = 10.0
) -> dict[str, Any]:
    config = with_llm_endpoint(load_preset(preset), llm)
    connection = Connection(host or "http://127.0.0.1:9", timeout_s=timeout_s, attempts=1)
    return {check.name: check for check in examine_cluster(connection, profile, config, store)}


def profile_at(registry: str) -> Profile:
    return load_profile("one-gpu").model_copy(update={"registry": registry, "tag": "t"})


def test_a_cluster_where_all_is_well_has_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"data": [{"id": "Qwen/Qwen2.5-7B-Instruct"}]}
    answers: Answers = {"/v2/synthio/": (200, {}, {}), "/v1/models": (200, {}, models)}
    with serving() as stub, answering(answers) as (address, _), s3_server() as url:
        for name, value in (
            ("AWS_ENDPOINT_URL_S3", url),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ):
            monkeypatch.setenv(name, value)
        profile = profile_at(f"{address}/synthio")
        found = states(profile, host=stub.url, store=f"s3://{BUCKET}/doctor", llm=f"http://{address}/v1")
    assert {name: check.state for name, check in found.items()} == {
        "API": "ok",
        "namespace": "not checked",
        "store": "ok",
        "images": "ok",
        "nodes": "not checked",
        "captions": "ok",
        "models": "ok",
    }


@pytest.mark.parametrize(
    ("fault", "said"), [(401, "KFP_TOKEN"), (409, "409"), (500, "500"), ("hang", "no answer from")]
)
def test_an_api_that_refuses_fails_or_hangs_is_a_problem_with_its_remedy(fault: int | str, said: str) -> None:
    with serving() as stub:
        stub.faults = [fault] * 20
        check = states(profile_at("localhost"), host=stub.url, timeout_s=0.5 if fault == "hang" else 10.0)["API"]
    assert check.state == "problem" and said in check.text


@pytest.mark.parametrize(
    ("status", "state", "said"),
    [(404, "problem", "make images push"), (500, "not checked", "answered 500"), (401, "not checked", "docker login")],
)
def test_images_that_are_missing_and_registries_that_do_not_tell_are_told_apart(
    status: int, state: str, said: str
) -> None:
    with answering({"/v2/": (status, {}, {})}) as (address, _):
        check = states(profile_at(f"{address}/synthio"))["images"]
    assert check.state == state and said in check.text and f"{len(LAYERS)} of {len(LAYERS)}" in check.text


def test_a_registry_that_nobody_answers_for_is_not_called_fine() -> None:
    check = states(profile_at("127.0.0.1:9/synthio"))["images"]
    assert check.state == "not checked" and "cannot be asked" in check.text


def test_a_registry_s_challenge_is_answered_with_the_account_of_docker_login(tmp_path: Path) -> None:
    answers: Answers = {"/token": (200, {}, {"token": "given"})}
    with answering(answers) as (address, asked):
        realm = f'Bearer realm="http://{address}/token",service="registry",scope="repository:synthio/base:pull"'
        answers["/v2/"] = (401, {"WWW-Authenticate": realm}, {})
        (tmp_path / ".docker").mkdir()
        (tmp_path / ".docker" / "config.json").write_text(json.dumps({"auths": {address: {"auth": "bWU6c2VjcmV0"}}}))
        check = states(profile_at(f"{address}/synthio"))["images"]
    assert check.state == "ok"
    assert ("/token?service=registry&scope=repository%3Asynthio%2Fbase%3Apull", "Basic bWU6c2VjcmV0") in asked


@pytest.mark.parametrize(
    ("answer", "state", "said"),
    [
        ((200, {}, {"data": [{"id": "other"}]}), "problem", "serves other, not Qwen"),
        ((401, {}, {}), "problem", "SYNTHIO_LLM_API_KEY"),
        ((500, {}, {}), "problem", "answered 500"),
        ((200, {}, ["no list"]), "problem", "no list of models"),
    ],
)
def test_a_caption_writer_that_cannot_serve_is_named(
    answer: tuple[int, dict[str, str], Any], state: str, said: str
) -> None:
    with answering({"/v1/models": answer}) as (address, _):
        check = states(profile_at("localhost"), llm=f"http://{address}/v1")["captions"]
    assert check.state == state and said in check.text


def test_a_caption_writer_inside_the_cluster_is_not_checked_from_outside() -> None:
    check = states(profile_at("localhost"), llm="http://127.0.0.1:9/v1")["captions"]
    assert check.state == "not checked" and "the pods must reach it" in check.text


@pytest.mark.parametrize(
    ("version", "state", "said"),
    [
        ("2.14.3", "problem", "is KFP 2.14.3; runs need 2.16 or later"),
        ("2.15.0", "problem", "upgrade it"),
        ("1.8.22", "problem", "upgrade it"),
        ("2.16.0", "ok", "KFP 2.16.0"),
        ("v2.17.1-rc.1", "ok", "KFP v2.17.1-rc.1"),
        ("3.0.0", "ok", "KFP 3.0.0"),
        ("master", "ok", "unknown version (master; runs need 2.16 or later)"),
        (None, "ok", "unknown version"),
    ],
)
def test_an_api_that_is_too_old_is_a_problem(version: Any, state: str, said: str) -> None:
    with serving(version=version) as stub:
        check = states(profile_at("localhost"), host=stub.url)["API"]
    assert check.state == state and said in check.text


@pytest.mark.parametrize("fault", [401, 403, 302, "page"])
def test_who_is_not_let_in_is_told_of_the_token(fault: int | str) -> None:
    with serving() as stub:
        stub.faults = [fault] * 20
        check = states(profile_at("localhost"), host=stub.url)["API"]
    assert check.state == "problem" and "KFP_TOKEN" in check.text
    assert isinstance(fault, str) or fault == 302 or "--audience pipelines.kubeflow.org" in check.text


def test_a_server_for_several_users_is_a_problem_without_a_namespace() -> None:
    with serving(multi_user=True) as stub:
        check = states(profile_at("localhost"), host=stub.url)["API"]
    assert check.state == "problem" and "KFP_NAMESPACE" in check.text


def test_in_a_pod_of_a_profile_its_namespace_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("team-a")
    monkeypatch.setattr("kfp.Client._NAMESPACE_PATH", str(tmp_path / "namespace"))
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/kubectl")
    monkeypatch.setattr(doctor, "_kubectl", lambda *command: ([], ""))
    with serving(multi_user=True) as stub:
        found = states(profile_at("localhost"), host=stub.url)
    assert found["API"].state == "ok"
    assert found["namespace"].text.startswith("team-a lacks serviceaccount/default-editor")


NEEDED = (
    "ServiceAccount/pipeline-runner",
    "ConfigMap/synthio-settings",
    "Secret/synthio-s3",
    "PersistentVolumeClaim/synthio-model-cache",
)


@pytest.mark.parametrize("lacking", [(), *[(name,) for name in NEEDED], NEEDED])
def test_what_a_namespace_lacks_is_named(lacking: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    here = [name.split("/") for name in NEEDED if name not in lacking]
    rows = [{"kind": kind, "metadata": {"name": name}} for kind, name in here]
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/kubectl")
    monkeypatch.setattr(doctor, "_kubectl", lambda *command: (rows if "--ignore-not-found" in command else [], ""))
    check = states(profile_at("localhost"))["namespace"]
    assert check.state == ("problem" if lacking else "ok") and check.text.startswith("kubeflow ")
    assert all(f"{name.lower()}: " in check.text for name in lacking)


def test_what_is_needed_follows_the_profile_and_the_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/kubectl")
    monkeypatch.setattr(doctor, "_kubectl", lambda *command: asked.append(command) or ([], ""))
    fields = {
        "model_cache": "store",
        "image_pull_secrets": ("pull",),
        "settings_config_map": "mine",
        "store_secret": "keys",
        "queue": "night",
        "priority_class": "low",
    }
    profile = profile_at("localhost").model_copy(update=fields)
    check = doctor._namespace("team", profile)
    assert asked == [
        (
            "get",
            "serviceaccount/default-editor",
            "configmap/mine",
            "secret/keys",
            "secret/pull",
            "localqueue/night",
            "priorityclass/low",
            "-n",
            "team",
            "--ignore-not-found",
        )
    ]
    assert "make the profile first" in check.text and "pods wait for it for ever" in check.text


def test_a_namespace_that_may_not_be_read_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/kubectl")
    monkeypatch.setattr(doctor, "_kubectl", lambda *command: (None, "Error from server (Forbidden)"))
    check = states(profile_at("localhost"))["namespace"]
    assert check.state == "not checked" and "Forbidden" in check.text


@pytest.mark.parametrize(
    ("printed", "names"),
    [
        ("", []),
        ('{"kind": "Secret", "metadata": {"name": "a"}}', ["a"]),
        ('{"kind": "List", "items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]}', ["a", "b"]),
    ],
)
def test_what_kubectl_prints_of_none_one_and_several_objects(
    printed: str, names: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "kubectl").write_text(f"#!/bin/sh\nprintf '%s' '{printed}'\n")
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/kubectl")
    rows, _ = doctor._kubectl("get", "secret/a")
    assert [row["metadata"]["name"] for row in rows or []] == names


LARGE = {"cpu": "63800m", "memory": "520000000Ki", "nvidia.com/gpu": "8"}
TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
SPOT = {"key": "cloud.google.com/gke-spot", "value": "true", "effect": "NoSchedule"}


def node(labels: Any = None, taints: Any = (), **allocatable: str) -> dict[str, Any]:
    sizes = {**LARGE, **{name.replace("gpu", "nvidia.com/gpu"): size for name, size in allocatable.items()}}
    return {
        "kind": "Node",
        "metadata": {"name": "a", "labels": labels or {}},
        "spec": {"taints": list(taints)},
        "status": {"allocatable": sizes},
    }


def checked(
    nodes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, profile: Profile, hard: dict[str, str] | None = None
) -> doctor.Check:
    quotas = [{"kind": "ResourceQuota", "metadata": {"name": "synthio"}, "status": {"hard": hard or {}}}]
    monkeypatch.setattr(doctor, "_kubectl", lambda *command: (nodes if "nodes" in command else quotas, ""))
    return doctor._nodes("team", profile)


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([node()], ""),
        ([node(taints=[TAINT]), node(gpu="0")], ""),
        ([node(taints=[{**TAINT, "effect": "PreferNoSchedule", "key": "other"}])], ""),
        ([node(gpu="0")], "have none, such as align_t2a: it asks for 1 of nvidia.com/gpu, and the "),
        ([node(memory="33554432Ki")], "such as pretrain_t2a: it asks for 64Gi of memory, and the largest node "),
        ([node(cpu="7900m")], "it asks for 8 of cpu, and the largest node that it may run on has 7900m"),
        (
            [node(taints=[TAINT])],
            "such as judge_study: the nodes that it may run on have taints that it does not bear: nvidia",
        ),
        ([node(taints=[SPOT])], "does not bear: cloud.google.com/gke-spot=true:NoSchedule"),
    ],
)
def test_each_stage_of_a_profile_finds_a_node_by_size_and_taints_or_is_named(
    nodes: list[dict[str, Any]], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = checked(nodes, monkeypatch, load_profile("one-gpu"))
    assert check.state == ("problem" if said else "ok") and said in check.text


def test_nodes_are_looked_for_by_the_labels_that_the_profile_selects(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, spot = node(gpu="0"), node({"cloud.google.com/gke-spot": "true"}, [TAINT, SPOT])
    assert checked([plain, spot], monkeypatch, load_profile("spot")).state == "ok"
    lacking = checked([plain, node(taints=[TAINT, SPOT])], monkeypatch, load_profile("spot"))
    assert lacking.state == "problem" and "no node has the labels cloud.google.com/gke-spot=true" in lacking.text
    pool = load_profile("one-gpu").model_copy(update={"node_selector": {"pool": "audio"}})
    assert checked([node({"pool": "audio"})], monkeypatch, pool).state == "ok"
    assert "such as align_t2a: no node has the labels pool=audio" in checked([node()], monkeypatch, pool).text
    assert checked([], monkeypatch, pool).state == "not checked"


@pytest.mark.parametrize(
    ("hard", "said"),
    [
        ({"requests.nvidia.com/gpu": "1", "requests.memory": "64Gi", "cpu": "8"}, ""),
        ({"requests.nvidia.com/gpu": "0"}, "allows 0 of requests.nvidia.com/gpu, align_t2a asks for 1: raise it"),
        ({"requests.memory": "60Gi"}, "allows 60Gi of requests.memory, pretrain_t2a asks for 64Gi"),
        ({"limits.cpu": "4"}, "allows 4 of limits.cpu, align_t2a asks for 8"),
        ({"memory": "20000M"}, "allows 20000M of memory, align_t2a asks for 32Gi"),
    ],
)
def test_a_quota_below_what_one_stage_asks_for_is_named(
    hard: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = checked([node()], monkeypatch, load_profile("one-gpu"), hard)
    assert check.state == ("problem" if said else "ok") and said in check.text


def test_models_of_a_preset_are_looked_for_in_the_store_that_the_profile_names(tmp_path: Path) -> None:
    claim, store = (profile_at("localhost").model_copy(update={"model_cache": kind}) for kind in ("claim", "store"))
    assert states(claim, "small")["models"].state == "not checked"
    assert "STORE=" in states(store, "small")["models"].text


def test_the_command_ends_with_1_when_the_cluster_has_a_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(Connection, "from_environment", classmethod(lambda cls: cls("http://127.0.0.1:9", attempts=1)))
    command = ["doctor", "--dataset", str(write_dataset(tmp_path / "sounds")), "--preset", "smoke"]
    assert main([*command, "--json"]) == 1
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["cluster"]}
    assert rows["API"]["state"] == "problem" and "check KFP_HOST" in rows["API"]["text"]
    assert main(command) == 1
    assert "  verdict    not ready: data, API" in capsys.readouterr().out


def test_the_verdict_names_what_is_wrong_else_what_was_not_seen() -> None:
    ok, wrong, unseen = (doctor.Check(state, state, "") for state in ("ok", "problem", "not checked"))  # type: ignore[arg-type]
    assert doctor.verdict([ok, ok]) == "ready"
    assert doctor.verdict([ok, unseen, unseen]).endswith("not checked: not checked")
    assert doctor.verdict([ok, unseen, wrong, wrong]) == "not ready: problem"
