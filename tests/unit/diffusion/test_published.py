from __future__ import annotations

import json

import pytest

from common.diffusion.backend import StableAudio, model_hash
from common.errors import ConfigError, DataError
from common.hashing import hash_file
from components.pretrain_t2a.published import hand_on, locate, verify

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
    hand_on(folder, tmp_path / "copy")
    assert not (tmp_path / "copy" / "model.ckpt").exists()
    StableAudio.load(tmp_path / "copy")
    (folder / "model.ckpt").unlink()
    assert model_hash(folder) == model_hash(tmp_path / "copy")


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


def test_a_model_that_cannot_be_had_is_a_config_error_that_says_what_to_do(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="folder or a hub id"):
        locate("nobody/no-such-model", None)
