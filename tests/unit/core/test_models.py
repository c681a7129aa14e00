"""The published models that presets name: pinned, described, checked."""

from __future__ import annotations

import hashlib
import re

import pytest

from common.config.run import load_preset, preset_names
from common.errors import ConfigError, DataError
from common.models import (
    PublishedModel,
    access,
    check_files,
    check_pinned,
    describe,
    locate,
    named_models,
    pinned_revision,
    published_models,
)

CORPUS = "prepare_corpus.audio_dir=/a prepare_corpus.captions_file=/c.csv"


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.parametrize("preset", preset_names())
def test_every_published_model_of_a_preset_is_listed_and_pinned(preset):
    config = load_preset(preset)
    for name, revision in named_models(config).items():
        assert name in published_models(), name
        assert re.fullmatch("[0-9a-f]{40}", pinned_revision(name, revision) or "")
    check_pinned(config)


def test_settings_and_list_name_the_same_commits():
    for preset in preset_names():
        for name, revision in named_models(load_preset(preset)).items():
            assert revision in (None, published_models()[name].revision)


def test_presets_without_published_models_name_none():
    assert named_models(load_preset("tiny")) == {}
    assert describe(load_preset("tiny")) == []


def test_the_paper_preset_takes_autoencoder_and_text_encoder_from_pinned_checkpoints():
    named = named_models(load_preset("paper"))
    assert {"stabilityai/stable-audio-open-1.0", "google/flan-t5-large"} <= named.keys()


def test_a_model_without_a_known_commit_is_refused_where_that_is_asked_for(caplog):
    unknown = "pretrain_clap.checkpoint=someone/clap pretrain_clap.revision=null"
    check_pinned(load_preset("small", unknown))
    with pytest.raises(ConfigError, match="someone/clap has no known commit"):
        check_pinned(load_preset("small", f"{unknown} require_pinned=true"))


def test_a_gated_model_that_is_not_here_says_how_to_get_it():
    lines = describe(load_preset("small"))
    gated = next(line for line in lines if line.startswith("stabilityai/stable-audio-open-1.0"))
    for part in ("not in the local cache", "https://huggingface.co/stabilityai/stable-audio-open-1.0", "HF_TOKEN"):
        assert part in gated
    assert not [line for line in lines if "HF_TOKEN" in line and not line.startswith("stabilityai/")]


def test_a_model_that_cannot_be_had_is_a_config_error_that_says_what_to_do():
    with pytest.raises(ConfigError, match=r"folder or a hub id.*gated"):
        locate("nobody/no-such-model", None, ["*.json"])
    with pytest.raises(ConfigError, match=r"accept the licence at https://huggingface.co/stabilityai"):
        locate("stabilityai/stable-audio-open-1.0", None, ["*.json"])
    assert "HF_TOKEN" in access("stabilityai/stable-audio-open-small")


def test_a_folder_is_its_own_place(tmp_path):
    assert locate(str(tmp_path), None, ["*.json"]) == tmp_path


def cached_file(tmp_path, content: bytes, name: bytes):
    """A file as the hub's cache lays it out: a link to a blob that is named by its hash."""
    blob = tmp_path / "blobs" / hashlib.sha256(name).hexdigest()
    blob.parent.mkdir()
    blob.write_bytes(content)
    link = tmp_path / "snapshots" / "model.safetensors"
    link.parent.mkdir()
    link.symlink_to(blob)
    return link.parent


def test_a_damaged_download_is_found_by_its_name_in_the_cache(tmp_path):
    (tmp_path / "right").mkdir()
    check_files("someone/model", cached_file(tmp_path / "right", b"weights", b"weights"))
    (tmp_path / "wrong").mkdir()
    with pytest.raises(DataError, match="is damaged"):
        check_files("someone/model", cached_file(tmp_path / "wrong", b"weighty", b"weights"))


def test_listed_hashes_are_compared(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    known = published_models()["google/flan-t5-large"].model_dump()
    listed = {"model.safetensors": hashlib.sha256(b"weights").hexdigest()}
    models = {"google/flan-t5-large": PublishedModel.model_validate(known | {"sha256": listed})}
    monkeypatch.setattr("common.models.published_models", lambda: models)
    check_files("google/flan-t5-large", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"weighty")
    with pytest.raises(DataError, match="sha256"):
        check_files("google/flan-t5-large", tmp_path)
