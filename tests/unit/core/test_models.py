"""The published models that presets name: pinned, described, checked."""

from __future__ import annotations

import re

import pytest

from common.config.run import load_preset, preset_names
from common.errors import ConfigError, DataError
from common.models.files import ModelRecord, fits
from common.models.registry import (
    PublishedModel,
    access,
    check_listed,
    check_pinned,
    describe,
    locate,
    named_models,
    pinned_revision,
    published_models,
)
from common.models.registry import listed as registry_listed

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
    corpus = "prepare_corpus.source=folder prepare_corpus.audio_dir=/a prepare_corpus.captions_file=/a/c.csv"
    assert named_models(load_preset("small", corpus)) == named_models(load_preset("small"))
    assert describe(load_preset("tiny")) == []


def test_the_paper_preset_takes_autoencoder_and_text_encoder_from_pinned_checkpoints():
    named = named_models(load_preset("paper"))
    assert {"stabilityai/stable-audio-open-1.0", "google/flan-t5-large"} <= named.keys()


def test_a_model_without_a_known_commit_is_refused():
    with pytest.raises(ConfigError, match="someone/clap has no known commit"):
        check_pinned(load_preset("small", "pretrain_clap.checkpoint=someone/clap pretrain_clap.revision=null"))


def test_a_gated_model_that_is_not_here_says_how_to_get_it():
    lines = describe(load_preset("small"))
    gated = next(line for line in lines if line.startswith("stabilityai/stable-audio-open-1.0"))
    for part in ("not in the local cache", "https://huggingface.co/stabilityai/stable-audio-open-1.0", "HF_TOKEN"):
        assert part in gated
    assert not [line for line in lines if "HF_TOKEN" in line and not line.startswith("stabilityai/")]


def test_a_model_that_was_not_fetched_is_a_config_error_that_says_what_to_do():
    with pytest.raises(ConfigError, match=r"no folder.*set its revision"):
        locate("nobody/no-such-model", None, ["*.json"])
    with pytest.raises(ConfigError, match="no folder"):
        locate("/no/such/folder", "0" * 40)
    with pytest.raises(ConfigError, match=r"make fetch-models.*HF_HOME.*at https://huggingface.co/stabilityai"):
        locate("stabilityai/stable-audio-open-1.0", None, ["*.json"])
    assert "HF_TOKEN" in access("stabilityai/stable-audio-open-small")


def test_a_folder_is_its_own_place(tmp_path):
    assert locate(str(tmp_path), None, ["*.json"]) == tmp_path


def test_listed_hashes_are_compared_with_the_record(monkeypatch):
    name, right, wrong = "google/flan-t5-large", "0" * 64, "1" * 64
    listed = published_models()[name].model_dump() | {"sha256": {"model.safetensors": right}}
    monkeypatch.setattr(
        "common.models.registry.published_models", lambda: {name: PublishedModel.model_validate(listed)}
    )

    def record(sha256):
        return ModelRecord(
            model=name, revision=listed["revision"], files={"model.safetensors": {"bytes": 7, "sha256": sha256}}
        )

    check_listed(record(right))
    with pytest.raises(DataError, match=f"{wrong}, models.yaml says {right}"):
        check_listed(record(wrong))
    with pytest.raises(DataError, match="is missing"):
        check_listed(ModelRecord(model=name, revision=listed["revision"], files={}))
    check_listed(ModelRecord(model=name, revision="a" * 40, files={}))


def test_the_pipeline_is_fetched_without_the_same_weights_in_one_file():
    patterns = registry_listed("stabilityai/stable-audio-open-1.0").files
    assert all(fits(name, patterns) for name in ("model_index.json", "vae/config.json", "tokenizer/spiece.model"))
    assert not fits("model.safetensors", patterns) and fits("model.safetensors", registry_listed("someone/model").files)
