"""A run or a study fetches the published datasets that it lacks, says so first, and never in vain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.config.run import load_preset
from common.datasets.pushed import push_dataset
from common.datasets.registry import find_dataset, resolve_dataset
from common.errors import ConfigError, StorageError
from common.storage import open_store
from pipelines.commands import main
from pipelines.commands.arguments import bring, cluster_parameters, remark, want
from tests.unit.fetching.server import Server
from tests.unit.fetching.test_fetch_data import PATH, esc50_files, zipped

CONFIG = load_preset("tiny")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Parameters of the runs and studies that were started; none of them really runs."""
    found: list[dict[str, Any]] = []
    for name in ("run_pipeline.run_local", "benchmark.run_study"):
        monkeypatch.setattr(f"pipelines.commands.{name}", lambda arguments, *_: found.append(arguments) or 0)
    return found


def write_spec(folder: Path, server: Server, name: str = "mini", **fields: Any) -> str:
    """The dataset file of a published dataset that is not on this machine."""
    (folder / f"{name}.yaml").write_text(
        yaml.safe_dump(
            {
                "reader": "esc50",
                "root": f"data/{name}",
                "test_folds": [2],
                "n": 4,
                "access": "download",
                "licence": "CC BY-NC 3.0",
                "use": "non-commercial",
                "archives": [{"url": server.url(PATH)}],
                "instructions": "fill in the form at https://example.org/form",
                **fields,
            }
        )
    )
    return str(folder / f"{name}.yaml")


def run(dataset: str, folder: Path, *options: str) -> int:
    return main(["run-pipeline", f"--dataset={dataset}", f"--runs={folder / 'runs'}", *options])


def study(datasets: str, folder: Path, *options: str) -> int:
    return main(["benchmark", f"--datasets={datasets}", f"--runs={folder / 'runs'}", *options])


def test_a_run_fetches_what_it_lacks_and_says_size_place_and_licence_first(
    server: Server, tmp_path: Path, started: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    data = zipped(esc50_files())
    server.add(PATH, data, after_cut=100)
    dataset = write_spec(tmp_path, server, archives=[{"url": server.url(PATH)}])
    assert run(dataset, tmp_path) == 0
    note, announced, done = capsys.readouterr().out.splitlines()
    assert note.startswith("note: preset tiny is a demonstration") and "mini" in note and "PRESET=small" in note
    assert announced.startswith(
        f"fetching dataset mini: {len(data) / 2**30:.2f} GiB from 127.0.0.1 to {tmp_path}/data/mini"
    )
    assert "CC BY-NC 3.0" in announced and "10 clips" in done
    (arguments,) = started
    assert yaml.safe_load(arguments["dataset"])["root"] == str(tmp_path / "data" / "mini") and arguments["data_version"]
    asked = len(server.asked)
    assert run(dataset, tmp_path) == 0 and len(server.asked) == asked and len(started) == 2


def test_fetch_0_forbids_it_in_one_line_and_nothing_starts(
    server: Server, tmp_path: Path, started: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    server.add(PATH, zipped(esc50_files()))
    dataset = write_spec(tmp_path, server)
    assert run(dataset, tmp_path, "--fetch=0") == 2 and study(dataset, tmp_path, "--fetch=0") == 2
    for line in capsys.readouterr().err.splitlines():
        assert "make fetch-data DATASET=mini" in line and "FETCH=0" in line
    assert main(["push-data", f"--dataset={dataset}", f"--store={tmp_path}", "--fetch=0"]) == 2
    assert not server.asked and not started and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("options", [["--n=4,8"], ["--n=4", "--dry-run"], ["--n=4", "--budget=0.0001"]])
def test_a_study_fetches_each_dataset_once_after_its_cost_is_accepted(
    server: Server,
    tmp_path: Path,
    started: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    options: list[str],
) -> None:
    server.add(PATH, zipped(esc50_files()))
    datasets = ",".join(["demo", write_spec(tmp_path, server), write_spec(tmp_path, server, "other")])
    assert study(datasets, tmp_path, *options) == (2 if "--budget=0.0001" in options else 0)
    told = capsys.readouterr()
    assert "6 cells" in told.out or "3 cells" in told.out
    if options == ["--n=4,8"]:
        assert told.out.count("fetching dataset") == len(server.asked) == 2
        assert told.out.index("estimate") < told.out.index("fetching") and told.out.count("note:") == 1
        assert len(json.loads(started[0]["cells"])) == 6
    else:
        assert not server.asked and not started and not (tmp_path / "data").exists()
        assert "--dry-run" not in options or "not on this machine: mini, other" in told.out


def test_a_study_with_a_dataset_to_be_got_by_hand_fetches_none(
    server: Server, tmp_path: Path, started: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    server.add(PATH, zipped(esc50_files()))
    datasets = f"{write_spec(tmp_path, server)},{write_spec(tmp_path, server, 'other', access='form')}"
    assert study(datasets, tmp_path) == 2
    assert "https://example.org/form" in capsys.readouterr().err and not server.asked and not started
    assert study(f"{write_spec(tmp_path, server)},demoo", tmp_path) == 2 and not server.asked


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--overrides=use=commercial"], "licence"),
        (["--n=many"], "whole number"),
        (["--methods=magic"], "unknown method"),
    ],
)
def test_a_mistake_is_told_before_anything_is_fetched(
    server: Server,
    tmp_path: Path,
    started: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    server.add(PATH, zipped(esc50_files()))
    dataset = write_spec(tmp_path, server)
    assert run(dataset, tmp_path, *options) == 2 and message in capsys.readouterr().err
    assert study(dataset, tmp_path, *options) == 2 and message in capsys.readouterr().err
    assert not server.asked and not started


def test_a_disk_without_room_is_told_before_the_first_byte_though_the_size_was_not_known(
    server: Server, tmp_path: Path, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add(PATH, zipped(esc50_files()))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 2**28 + 100})())
    with pytest.raises(StorageError, match="GiB free; dataset mini needs at least"):
        bring([want(write_spec(tmp_path, server), 0, CONFIG)], allowed=True)
    assert not server.asked


def test_a_server_that_states_no_size_is_asked_all_the_same(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.add(PATH, zipped(esc50_files()), length=False)
    bring([want(write_spec(tmp_path, server), 0, CONFIG)], allowed=True)
    assert "mini: of unstated size from" in capsys.readouterr().out


def test_the_datasets_of_the_nights_and_of_the_mission_can_be_fetched_and_are_checked() -> None:
    for name in ("esc50", "urbansound8k", "gtzan"):
        spec = resolve_dataset(name)
        assert spec.access == "download"
        assert all(archive.url.startswith("https://") and (archive.md5 or archive.sha256) for archive in spec.archives)


@pytest.mark.parametrize(
    ("dataset", "preset", "said"),
    [("gtzan", "tiny", True), ("gtzan", "smoke", True), ("gtzan", "small", False), ("demo", "tiny", False)],
)
def test_a_published_dataset_under_a_preset_for_demonstration_is_remarked_upon(
    dataset: str, preset: str, said: bool
) -> None:
    config = load_preset(preset)
    assert bool(remark([want(dataset, 0, config)], preset, config)) is said


def local_copy(folder: Path) -> None:
    """ESC-50 in miniature in the data folder `folder`."""
    for name, data in esc50_files().items():
        (folder / "esc50" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "esc50" / name).write_bytes(data)


def test_on_a_cluster_a_registered_dataset_is_that_of_the_store(
    tmp_path: Path, run_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTHIO_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "esc50").mkdir(parents=True)
    with pytest.raises(ConfigError, match="make push-data DATASET=esc50 STORE=s3://"):
        find_dataset("esc50")
    assert cluster_parameters(want("esc50", 5, CONFIG), "") == {"dataset": "esc50", "n": 5, "data_version": ""}
    local_copy(tmp_path / "data")
    assert find_dataset("esc50") == resolve_dataset("esc50")
    push_dataset(resolve_dataset("esc50"), open_store(run_store).child("datasets"))
    monkeypatch.setenv("SYNTHIO_DATA", str(tmp_path / "elsewhere"))
    pushed = find_dataset("esc50")
    assert pushed.pushed and pushed.name == "esc50"
    own = yaml.safe_dump({"name": "esc50", "reader": "esc50", "root": str(tmp_path / "none"), "test_folds": [1]})
    with pytest.raises(ConfigError, match="is not on this machine"):
        find_dataset(own)


def test_what_pods_cannot_read_is_refused_before_anything_is_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_copy(tmp_path)
    (tmp_path / "own.yaml").write_text("name: own\naudio: esc50/ESC-50-master\n")
    with pytest.raises(ConfigError, match=r"make push-data DATASET=.*own.yaml STORE=s3://…, and give the address"):
        cluster_parameters(want(str(tmp_path / "own.yaml"), 0, CONFIG), "")
    monkeypatch.setattr("pipelines.commands.arguments.open_store", lambda _: open_store(tmp_path / "store"))
    with pytest.raises(ConfigError, match="STORE=s3://bucket/store"):
        cluster_parameters(want("esc50", 0, CONFIG), "s3://bucket/store")
    monkeypatch.setenv("SYNTHIO_DATA", str(tmp_path))
    push_dataset(resolve_dataset("esc50"), open_store(tmp_path / "store").child("datasets"))
    found = cluster_parameters(want("esc50", 0, CONFIG), "s3://bucket/store")
    assert "pushed: file://" in found["dataset"] and found["data_version"]
    assert "procedural_demo" in cluster_parameters(want("demo", 0, CONFIG), "")["dataset"]


def test_a_dataset_that_vanished_is_found_missing_before_anything_is_trained(tmp_path: Path) -> None:
    local_copy(tmp_path)
    files = yaml.safe_dump({"name": "own", "audio": str(tmp_path / "gone")})
    with pytest.raises(ConfigError, match=r"gone does not exist on this machine; .*make push-data"):
        find_dataset(files)
    spec = resolve_dataset(
        yaml.safe_dump({"name": "e", "reader": "esc50", "root": str(tmp_path / "esc50"), "test_folds": [1]})
    )
    address = push_dataset(spec, open_store(tmp_path / "store"))
    assert find_dataset(address).pushed
    for path in (tmp_path / "store" / "lists").iterdir():
        path.unlink()
    with pytest.raises(StorageError):
        find_dataset(address)
