"""Published models: fetched by the hub's own client from a server of this machine, recorded, and taken by stages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file

from common.config.run import load_preset
from common.errors import ConfigError, DataError, StorageError
from common.models.files import read_record, record_path
from common.models.registry import describe, locate, missing_models
from common.storage import open_store
from pipelines.commands import main
from tests.kit.hub import Hub
from tests.kit.s3_server import BUCKET, s3_server
from tests.unit.fetching.fetched import COMMIT, FILES, LARGE, MODEL, OTHER, WANTED, WEIGHTS, fetch_model

RUN = f"pretrain_clap.checkpoint={MODEL} pretrain_clap.revision={COMMIT}"


def test_a_model_is_fetched_at_its_commit_without_pickles_and_recorded(hub: Hub, tmp_path: Path) -> None:
    fetched = fetch_model(MODEL, COMMIT)
    assert fetched.new and set(fetched.record.files) == WANTED == set(hub.sent)
    folder = locate(MODEL, COMMIT)
    assert torch.equal(load_file(folder / LARGE)["weight"], WEIGHTS["weight"])
    assert read_record(tmp_path / "hub", MODEL, COMMIT) == fetched.record
    assert fetched.record.files[LARGE].bytes == len(FILES[LARGE])


def test_a_second_call_verifies_and_sends_for_nothing(hub: Hub) -> None:
    fetch_model(MODEL, COMMIT)
    hub.sent.clear()
    assert not fetch_model(MODEL, COMMIT).new and not hub.sent


def test_a_transfer_that_is_cut_goes_on_within_one_call(hub: Hub) -> None:
    hub.cut[LARGE] = 2
    fetch_model(MODEL, COMMIT)
    assert hub.sent[LARGE] == 3 and load_file(locate(MODEL, COMMIT) / LARGE)


def test_after_an_interruption_whole_files_are_kept_and_nothing_is_recorded_before(hub: Hub, tmp_path: Path) -> None:
    hub.cut[LARGE] = 100
    with pytest.raises(StorageError, match="run the same command again"):
        fetch_model(MODEL, COMMIT)
    assert not record_path(tmp_path / "hub", MODEL, COMMIT).exists()
    with pytest.raises(ConfigError, match="make fetch-models"):
        locate(MODEL, COMMIT)
    hub.cut.clear()
    hub.sent.clear()
    assert fetch_model(MODEL, COMMIT).new and set(hub.sent) == {LARGE}
    locate(MODEL, COMMIT)


@pytest.mark.parametrize("name", ["config.json", LARGE])
def test_a_file_that_is_not_the_one_listed_is_refused_and_fetched_again(hub: Hub, name: str) -> None:
    hub.spoil.add(name)
    with pytest.raises(DataError, match=f"{name} is not the file that the hub lists"):
        fetch_model(MODEL, COMMIT)
    hub.spoil.clear()
    assert fetch_model(MODEL, COMMIT).new
    locate(MODEL, COMMIT)


@pytest.mark.parametrize("name", sorted(WANTED))
def test_a_changed_byte_is_named_by_the_stage_and_mended_by_the_next_fetch(hub: Hub, name: str) -> None:
    fetch_model(MODEL, COMMIT)
    content = (locate(MODEL, COMMIT) / name).resolve()
    data = bytearray(content.read_bytes())
    data[0] ^= 1
    content.write_bytes(data)
    with pytest.raises(DataError, match=name):
        locate(MODEL, COMMIT)
    assert fetch_model(MODEL, COMMIT).new
    locate(MODEL, COMMIT)


@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (401, "GatedRepo", ConfigError, "HF_TOKEN"),
        (403, "", ConfigError, "refuses"),
        (404, "RepoNotFound", ConfigError, "has no model someone/tiny"),
        (404, "RevisionNotFound", ConfigError, f"no commit {COMMIT}"),
        (500, "", StorageError, "run the same command again"),
    ],
)
def test_what_the_hub_refuses_is_said_with_what_to_do(
    hub: Hub, status: int, code: str, kind: type[Exception], said: str
) -> None:
    hub.refuse[MODEL] = (status, code)
    with pytest.raises(kind, match=said):
        fetch_model(MODEL, COMMIT)


def test_a_gated_model_wants_a_token_before_anything_is_asked_for(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    gated = "stabilityai/stable-audio-open-small"
    hub.files[gated, OTHER] = dict(FILES)
    hub.gated.add(gated)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ConfigError, match=f"no HF_TOKEN.*https://huggingface.co/{gated}"):
        fetch_model(gated, OTHER)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: hub.token)
    monkeypatch.setenv("HF_TOKEN", "hf_licence_not_accepted")
    with pytest.raises(ConfigError, match=f"the hub refuses {gated}.*accept the licence"):
        fetch_model(gated, OTHER)
    assert not hub.sent
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert fetch_model(gated, OTHER).new


def test_a_model_without_safetensors_or_without_a_commit_is_refused(hub: Hub) -> None:
    hub.files[MODEL, OTHER] = {"config.json": b"{}", "pytorch_model.bin": b"a pickle"}
    with pytest.raises(DataError, match=r"no safetensors, only pytorch_model\.bin"):
        fetch_model(MODEL, OTHER)
    assert not hub.sent
    with pytest.raises(ConfigError, match="set its revision"):
        fetch_model(MODEL, None)


def test_without_a_network_or_room_the_error_says_so(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.commands.fetch_models.SPARE_BYTES", 2**60)
    with pytest.raises(StorageError, match=r"GiB free; someone/tiny needs .* HF_HOME"):
        fetch_model(MODEL, COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE"):
        fetch_model(MODEL, COMMIT)
    assert not hub.sent


def test_presets_that_train_all_themselves_need_no_models(capsys: pytest.CaptureFixture[str]) -> None:
    for preset in ("tiny", "smoke"):
        assert main(["fetch-models", "--preset", preset]) == 0
        assert f"preset {preset} needs no published models" in capsys.readouterr().out


def test_a_stage_takes_from_the_store_what_it_needs_and_nothing_else(
    hub: Hub, tmp_path: Path, run_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch-models", "--preset", "tiny", "--overrides", RUN, "--store", str(run_store)]) == 0
    assert main(["fetch-models", "--preset", "tiny", "--overrides", RUN, "--store", run_store.as_uri()]) == 0
    assert "3 files copied, 0 were there" in (said := capsys.readouterr().out) and "0 files copied, 3 were" in said
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    folder = locate(MODEL, COMMIT, ["vae/*.safetensors"])
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["model.safetensors"]
    assert torch.equal(load_file(folder / LARGE)["weight"], WEIGHTS["weight"])
    (folder / LARGE).write_bytes(b"damaged")
    with pytest.raises(DataError, match=LARGE):
        locate(MODEL, COMMIT, ["vae/*.safetensors"])
    with pytest.raises(ConfigError, match="another kind of model"):
        locate(MODEL, COMMIT, ["*.onnx"])


def test_an_s3_store_hands_out_the_same_bytes_and_a_damaged_object_is_refused(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = fetch_model(MODEL, COMMIT)
    with s3_server() as url:
        for name, value in (("AWS_ENDPOINT_URL_S3", url), ("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")):
            monkeypatch.setenv(name, value)
        uri = f"s3://{BUCKET}/store"
        config = load_preset("tiny", RUN)
        assert (
            missing_models(config, uri)
            and main(["fetch-models", "--preset", "tiny", "--overrides", RUN, "--store", uri]) == 0
        )
        assert missing_models(config, uri) == []
        monkeypatch.setenv("SYNTHIO_STORE", uri)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
        folder = locate(MODEL, COMMIT)
        assert {name: (folder / name).read_bytes() for name in WANTED} == {name: FILES[name] for name in WANTED}
        sha256 = fetched.record.files[LARGE].sha256
        open_store(uri).write_bytes(f"models/sha256/{sha256[:2]}/{sha256}", FILES[LARGE][::-1])
        monkeypatch.setenv("SYNTHIO_CACHE", str(tmp_path / "other"))
        with pytest.raises(StorageError, match="differs from its record"):
            locate(MODEL, COMMIT)


def test_what_is_missing_is_named_with_the_command_until_it_is_there(hub: Hub) -> None:
    config = load_preset("tiny", RUN)
    (line,) = missing_models(config)
    assert MODEL in line and "make fetch-models" in line and "not in the local cache" in describe(config)[0]
    fetch_model(MODEL, COMMIT)
    assert missing_models(config) == [] and "in the local cache" in describe(config)[0]
    (locate(MODEL, COMMIT) / "config.json").unlink()
    assert missing_models(config) == [line]


def test_a_record_that_names_a_file_elsewhere_is_refused(hub: Hub, tmp_path: Path) -> None:
    fetch_model(MODEL, COMMIT)
    path = record_path(tmp_path / "hub", MODEL, COMMIT)
    path.write_text(path.read_text().replace('"config.json"', '"../../config.json"'))
    with pytest.raises(StorageError, match="is no record of a model"):
        locate(MODEL, COMMIT)
