"""What a run lacks is found before anything starts: models, on this machine, in containers and in `plan`; and keys."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from common.config.run import load_preset
from common.errors import ConfigError
from common.models import shipped
from common.models.files import ModelRecord, snapshot, write_record
from common.models.registry import missing_models, named_models, pinned_revision
from common.storage import open_store
from components.plan.run import run as plan
from pipelines.commands import main
from tests.kit.smoke import write_dataset

SMALL = named_models(load_preset("small"))
KEY = "SYNTHIO_LLM_API_KEY"
CORPUS = "prepare_corpus.audio_dir=/a prepare_corpus.captions_file=/c.csv"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The model cache of this machine, empty, and no local run that would begin."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("pipelines.commands.run_pipeline.run_local", lambda *_: 0)
    monkeypatch.setattr("pipelines.commands.benchmark.run_study", lambda *_: 0)
    for name in (KEY, "KFP_HOST"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "hub"


def put(cache: Path, *models: str) -> None:
    for name in models:
        commit = str(pinned_revision(name, None))
        files = {"config.json": {"bytes": 2, "sha256": "0" * 64}}
        write_record(cache, ModelRecord(model=name, revision=commit, files=files))
        folder = snapshot(cache, name, commit)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")


def put_into_store(store: Path, *models: str) -> None:
    for name in models:
        commit = str(pinned_revision(name, None))
        record = ModelRecord(model=name, revision=commit, files={})
        key = f"models/models--{name.replace('/', '--')}/{commit}.json"
        open_store(str(store)).write_bytes(key, record.model_dump_json().encode())


def told(capsys: pytest.CaptureFixture[str], *command: str) -> tuple[int, str]:
    status = main(list(command))
    return status, capsys.readouterr().err


COMMANDS = {
    "run": ("run-pipeline", "--dataset", "demo"),
    "study": ("benchmark", "--datasets", "demo"),
    "container": ("run-pipeline", "--dataset", "demo", "--runner", "docker"),
}


@pytest.mark.parametrize("name", ["run", "study", "container"])
def test_missing_models_stop_a_run_in_one_line_with_the_command_that_fetches_them(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = (*COMMANDS[name], "--preset", "small", "--runs", str(tmp_path / "runs"), "--overrides", "rounds=1")
    status, error = told(capsys, *options)
    assert status == 2 and error.count("\n") == 1 and error.startswith("error: nothing was started: ")
    assert all(model in error for model in SMALL)
    assert "HF_TOKEN=… make fetch-models PRESET=small OVERRIDES='rounds=1'" in error
    assert (f"STORE={tmp_path / 'runs' / 'store'}" in error) == (name == "container")
    assert not list((tmp_path / "runs").glob("*"))


def test_models_may_lie_in_the_cache_or_in_the_store_and_in_containers_only_there(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *others = SMALL
    put(cache, first)
    put_into_store(tmp_path / "runs" / "store", *others)
    options = ("--preset", "small", "--runs", str(tmp_path / "runs"))
    assert told(capsys, *COMMANDS["run"], *options) == (0, "")
    status, error = told(capsys, *COMMANDS["container"], *options)
    assert status == 2 and first in error and not any(model in error for model in others)


def test_a_file_that_was_deleted_from_the_cache_is_missed(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(cache, *SMALL)
    assert missing_models(load_preset("small")) == []
    next(cache.rglob("config.json")).unlink()
    assert len(missing_models(load_preset("small"))) == 1


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = f"pretrain_clap.checkpoint={tmp_path}/clap pretrain_clap.revision=null"
    options = ("--runs", str(tmp_path / "runs"), "--preset", "tiny", "--overrides", own)
    status, error = told(capsys, *COMMANDS["run"], *options)
    assert status == 2 and f"{tmp_path}/clap is no folder: correct it" in error and "make fetch-models" not in error
    (tmp_path / "clap").mkdir()
    assert told(capsys, *COMMANDS["run"], *options) == (0, "")


@pytest.mark.parametrize("name", ["nano/clap", "nano/encoder", "nano/t2a"])
def test_a_damaged_model_of_the_project_stops_a_run_and_the_doctor_names_it_among_its_findings(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(shipped.FOLDER, tmp_path / "models")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "models")
    options = ("--runs", str(tmp_path / "runs"), "--preset", "tiny")
    assert told(capsys, *COMMANDS["run"], *options) == (0, "")
    harmed = next((tmp_path / "models" / name).rglob("*.safetensors"))
    harmed.write_text("version https://git-lfs.github.com/spec/v1")
    status, error = told(capsys, *COMMANDS["run"], *options)
    assert status == 2 and f"{harmed} has 42 bytes" in error and "restore the project's folder models/" in error
    assert told(capsys, *COMMANDS["container"], *options) == (0, "")
    assert main(["doctor", "--dataset", "demo"]) == 1
    found = capsys.readouterr().out
    assert f"PROBLEM    {harmed} has 42 bytes" in found and "clips      listed" in found
    assert main(["doctor", "--dataset", "demo", "--preset", "smoke"]) == 0


def test_plan_stops_before_anything_is_trained_and_looks_where_its_pod_looks(cache: Path, run_store: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing was started: .*make fetch-models PRESET=small"):
        plan("demo", "small", 0, "gold", 1, "", "")
    first, *others = SMALL
    put(cache, first)
    put_into_store(run_store, *others)
    assert plan("demo", "small", 0, "gold", 1, "", "")


def test_the_cache_is_known_where_the_hubs_client_is_not_installed(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache, *SMALL)
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert missing_models(load_preset("small")) == []


@pytest.mark.parametrize(
    ("methods", "endpoint", "key", "stops"),
    [
        ("gold,synthio", "", "", True),
        ("gold,synthio", "", "sk-given", False),
        ("gold,vanilla", "", "", False),
        ("gold,synthio", "http://localhost:8000/v1", "", False),
    ],
)
def test_a_paid_writer_without_a_key_stops_the_run(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    methods: str,
    endpoint: str,
    key: str,
    stops: bool,
) -> None:
    put(cache, *named_models(load_preset("paper", CORPUS)))
    monkeypatch.setenv(KEY, key)
    options = ("--preset", "paper", "--overrides", CORPUS, "--methods", methods, "--llm-endpoint", endpoint)
    status, error = told(capsys, *COMMANDS["run"], *options, "--runs", str(tmp_path / "runs"))
    assert (status == 2 and f"${KEY} is not set" in error) if stops else (status, error) == (0, "")


def test_doctor_says_not_ready_until_the_models_are_there(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["doctor", "--dataset", str(write_dataset(tmp_path / "sounds")), "--preset", "small"]
    assert main(command) == 1
    text = capsys.readouterr().out
    assert "verdict    not ready" in text and text.count("PROBLEM") == len(SMALL)
    put(cache, *SMALL)
    assert main(command) == 0
    assert "verdict    ready" in capsys.readouterr().out
    assert main([*command, "--overrides", "augment_captions.writer.backend=endpoint"]) == 0
    paid = "augment_captions.writer.backend=endpoint augment_captions.writer.endpoint.base_url=https://x.example/v1 "
    paid += "augment_captions.writer.endpoint.price_per_million_input=1"
    assert main([*command, "--overrides", paid]) == 1
    assert f"${KEY} is not set" in capsys.readouterr().out
