from __future__ import annotations

import json

import pytest

from common.diffusion.backend import load_backend
from common.errors import ConfigError, DataError
from common.storage import open_store
from common.storage.artifacts import artifact_hash
from common.storage.hashing import hash_file
from components.pretrain_t2a.published import hand_on, reuse, verify
from tests.kit.s3_server import BUCKET, s3_server

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(oobleck_backend, tmp_path):
    oobleck_backend.save(tmp_path / "published")
    return tmp_path / "published"


def test_verify_counts_the_parameters_of_a_pipeline(folder, oobleck_backend):
    modules = [getattr(oobleck_backend, name) for name in ("transformer", "projection", "text_encoder", "vae")]
    tensors = sum(value.numel() for module in modules for value in module.state_dict().values())
    tied = oobleck_backend.text_encoder.shared.weight.numel()
    assert verify(folder, {WEIGHTS: hash_file(folder / WEIGHTS)}) in (tensors, tensors - tied)


def test_handed_on_copy_loads_and_holds_nothing_else(folder, tmp_path):
    (folder / "model.ckpt").write_bytes(b"a whole checkpoint in another format")
    hand_on(folder, tmp_path / "copy", {})
    assert not (tmp_path / "copy" / "model.ckpt").exists()
    load_backend(tmp_path / "copy")
    (folder / "model.ckpt").unlink()
    assert artifact_hash(folder) == artifact_hash(tmp_path / "copy")


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("_class_name", "AudioLDM2Pipeline", "AudioLDM2Pipeline"),
        ("transformer", ["diffusers", "StableAudio3DiTModel"], "StableAudio3DiTModel"),
        ("scheduler", ["diffusers", "EDMEulerScheduler"], "EDMEulerScheduler"),
    ],
)
def test_another_kind_of_pipeline_is_refused_by_name(folder, entry, value, message):
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {entry: value}))
    with pytest.raises(DataError, match=message):
        verify(folder, {})


def test_a_wrong_hash_or_missing_weights_are_refused(folder):
    with pytest.raises(DataError, match="sha256"):
        verify(folder, {WEIGHTS: "0" * 64})
    (folder / WEIGHTS).unlink()
    with pytest.raises(DataError, match="no safetensors for transformer"):
        verify(folder, {})


def test_a_finished_model_of_an_earlier_run_is_taken_over(folder, tmp_path):
    hand_on(folder, tmp_path / "earlier", {"start": "random", "curve": [{"step": 1.0}]})
    (tmp_path / "earlier" / "monitor").mkdir()
    (tmp_path / "earlier" / "monitor" / "notes.txt").write_text("not of the model")
    for name, uri in {"path": str(tmp_path / "earlier"), "uri": (tmp_path / "earlier").as_uri()}.items():
        (tmp_path / name).mkdir()
        reuse(uri, None, tmp_path / name)
        assert artifact_hash(tmp_path / name) == artifact_hash(folder)
        assert json.loads((tmp_path / name / "training.json").read_text())["curve"] == [{"step": 1.0}]
        assert not (tmp_path / name / "monitor").exists()
    reuse(str(tmp_path / "earlier"), artifact_hash(folder), tmp_path / "again")


def test_what_is_unfinished_or_changed_is_not_reused(folder, tmp_path):
    with pytest.raises(ConfigError, match="no finished text-to-audio model"):
        reuse(str(folder), None, tmp_path / "unfinished")
    hand_on(folder, tmp_path / "earlier", {})
    with pytest.raises(DataError, match="expected 00000"):
        reuse(str(tmp_path / "earlier"), "0" * 64, tmp_path / "other")
    with (tmp_path / "earlier" / WEIGHTS).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(DataError, match="was changed"):
        reuse(str(tmp_path / "earlier"), None, tmp_path / "changed")
    (tmp_path / "earlier" / "training.json").write_text("{}")
    with pytest.raises(ConfigError, match="reuse_sha256"):
        reuse(str(tmp_path / "earlier"), None, tmp_path / "unknown")


def test_a_model_in_an_object_store_is_reused(folder, tmp_path, monkeypatch):
    with s3_server() as url:
        for name, value in {"AWS_ENDPOINT_URL_S3": url, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}.items():
            monkeypatch.setenv(name, value)
        hand_on(folder, tmp_path / "earlier", {"start": "random"})
        uri = f"s3://{BUCKET}/runs/7/t2a"
        store = open_store(uri)
        for file in (tmp_path / "earlier").rglob("*"):
            if file.is_file():
                store.upload(file.relative_to(tmp_path / "earlier").as_posix(), file)
        reuse(uri, artifact_hash(folder), tmp_path / "again")
        with pytest.raises(ConfigError, match="no finished text-to-audio model"):
            reuse(f"s3://{BUCKET}/runs/8/t2a", None, tmp_path / "none")
    assert artifact_hash(tmp_path / "again") == artifact_hash(folder)
