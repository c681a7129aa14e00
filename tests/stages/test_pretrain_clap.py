from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import ClapModel, ClapProcessor

from common.clap.scorer import ClapScorer
from common.config.clap import PretrainClapPlan
from common.corpus.features import audio_shards, write_features
from common.corpus.pretraining import Pretraining
from common.corpus.shards import Corpus
from common.errors import ConfigError, DataError
from common.storage import read_json
from common.storage.items import ItemStore
from common.training.engine import Engine
from components.prepare_corpus.run import run as prepare_corpus
from components.pretrain_clap import pretraining
from components.pretrain_clap.pretraining import HeldOut, read_windows, starting_point
from components.pretrain_clap.run import run
from tests.kit.corpus import write_corpus
from tests.kit.hashing import hash_dir
from tests.kit.models import CLAP_ARCHITECTURE, write_clap
from tests.kit.sounds import CLAP_RATE

CODE = "test"
TRAINED: dict[str, Any] = {
    "checkpoint": None,
    "revision": None,
    "architecture": CLAP_ARCHITECTURE.model_dump(),
    "optim": {"steps": 60, "batch_size": 12, "learning_rate": 3e-3, "warmup_steps": 5},
}


def pretrain(
    tmp_path: Path, settings: dict[str, Any], name: str = "clap", code: str = CODE
) -> tuple[Path, dict[str, Any]]:
    corpus = tmp_path / "corpus"
    if not corpus.exists():
        write_corpus(corpus)
    out = tmp_path / name
    metrics = tmp_path / f"{name}.json"
    figures = run(str(corpus), str(out), str(metrics), config={"settings": settings, "seed": 0}, code_version=code)
    assert read_json(metrics) == figures
    return out, figures


def test_pretraining_tells_held_out_classes_apart(tmp_path: Path) -> None:
    out, figures = pretrain(tmp_path, TRAINED)
    assert figures["heldout_auc"] > 0.9
    account = read_json(out / "training.json")
    assert account["curve"][-1]["loss"] < account["curve"][0]["loss"] and account["heldout"]["clips"] == 9
    ClapModel.from_pretrained(out)
    ClapProcessor.from_pretrained(out)


@pytest.mark.e2e
def test_pretraining_repeats_bit_for_bit(tmp_path: Path) -> None:
    first, _ = pretrain(tmp_path, TRAINED, "first")
    second, _ = pretrain(tmp_path, TRAINED, "second", code="other version, so nothing is taken from the store")
    assert hash_dir(first) == hash_dir(second)


def test_a_checkpoint_is_verified_and_handed_on_unchanged(tmp_path: Path) -> None:
    published = write_clap(tmp_path / "published")
    out, figures = pretrain(tmp_path, {"checkpoint": str(published), "revision": None})
    clip = np.sin(np.arange(CLAP_RATE, dtype=np.float32))
    rows = [ClapScorer.load(folder).embed_audio([clip], CLAP_RATE) for folder in (published, out)]
    np.testing.assert_array_equal(*rows)
    assert 0 <= figures["heldout_auc"] <= 1


def test_a_checkpoint_needs_no_corpus(tmp_path: Path) -> None:
    none = {"settings": {"source": "none"}, "seed": 0}
    prepare_corpus(str(tmp_path / "corpus"), str(tmp_path / "corpus.json"), config=none, code_version=CODE)
    published = write_clap(tmp_path / "published")
    out, figures = pretrain(tmp_path, {"checkpoint": str(published), "revision": None})
    assert figures == {} and ClapScorer.load(out).dim == CLAP_ARCHITECTURE.projection_dim


def test_a_missing_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no folder.*hub id"):
        pretrain(tmp_path, {"checkpoint": str(tmp_path / "absent"), "revision": None})


def test_the_best_evaluation_is_kept_and_every_one_is_told(tmp_path: Path) -> None:
    optim = {**TRAINED["optim"], "steps": 30, "evaluate_every": 5, "schedule": "constant", "learning_rate": 0.02}
    out, figures = pretrain(tmp_path, {**TRAINED, "optim": optim, "select_by": "caption_auc"})
    account = read_json(out / "training.json")
    told = {row["step"]: row["heldout_caption_auc"] for row in account["curve"] if "heldout_caption_auc" in row}
    assert set(told) == {5, 10, 15, 20, 25, 30}
    assert account["heldout"]["caption_auc"] == max(told.values()) == told[account["best_step"]]
    assert set(told.values()) != {max(told.values())}
    scorer = ClapScorer.load(out)
    shards = audio_shards(tmp_path / "corpus", "heldout", None)
    stored = write_features(tmp_path / "features", shards, partial(read_windows, scorer.features))
    assert HeldOut(stored).figures(scorer) == account["heldout"]
    assert {"heldout_text_to_audio_r1", "heldout_audio_to_text_r10", "heldout_text_to_audio_median_rank"} <= set(
        figures
    )


def test_a_checkpoint_that_training_spoils_is_kept_as_it_was(tmp_path: Path) -> None:
    published = write_clap(tmp_path / "published", steps=30)
    optim = {"steps": 4, "batch_size": 12, "learning_rate": 1.0, "schedule": "constant"}
    out, figures = pretrain(tmp_path, {"checkpoint": str(published), "revision": None, "optim": optim})
    account = read_json(out / "training.json")
    assert account["best_step"] == 0 and account["heldout"] == account["heldout_before"]
    assert account["curve"][-1]["heldout_auc"] < figures["heldout_auc"]
    before, after = load_file(published / "model.safetensors"), load_file(out / "model.safetensors")
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_held_out_clips_enter_no_weight(tmp_path: Path) -> None:
    weights = []
    for name, count in (("first", 9), ("second", 6)):
        (tmp_path / name).mkdir()
        write_corpus(tmp_path / name / "corpus", heldout=count)
        optim = {**TRAINED["optim"], "steps": 8}
        out, _ = pretrain(tmp_path / name, {**TRAINED, "optim": optim})
        weights.append((out / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


@pytest.mark.e2e
def test_a_killed_run_goes_on_bit_for_bit_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optim = {**TRAINED["optim"], "steps": 12, "evaluate_every": 4, "checkpoint_every_s": 1e-9}
    whole, _ = pretrain(tmp_path, {**TRAINED, "optim": optim}, "whole")
    monkeypatch.setenv("SYNTHIO_STORE", str(tmp_path / "other"))
    real, calls = Engine.step, list[int]()

    def dying(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "step", dying)
        with pytest.raises(KeyboardInterrupt):
            pretrain(tmp_path, {**TRAINED, "optim": optim}, "resumed")
    with monkeypatch.context() as patch:
        patch.setattr("components.pretrain_clap.pretraining.read_windows", pytest.fail)
        resumed, _ = pretrain(tmp_path, {**TRAINED, "optim": optim}, "resumed")
    assert hash_dir(whole) == hash_dir(resumed)
    left = [path for path in (tmp_path / "other").rglob("*") if path.is_file() and path.name != "training.json"]
    assert not [path for path in left if "scratch" in path.parts or "work" in path.parts]


@pytest.mark.e2e
def test_two_processes_train_what_one_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout is off: each process draws its own."""
    corpus = write_corpus(tmp_path / "corpus")
    optim = {**TRAINED["optim"], "steps": 5, "warmup_steps": 0, "evaluate_every": 2, "learning_rate": 1e-3}
    scorer = starting_point(
        PretrainClapPlan.model_validate({"settings": TRAINED, "seed": 0}).settings, Corpus(corpus).vocabulary(), 0
    )
    for part in (scorer.model.config.audio_config, scorer.model.config.text_config):
        part.hidden_dropout_prob = part.attention_probs_dropout_prob = 0.0
    scorer.save(tmp_path / "start")
    settings = {**TRAINED, "optim": optim, "checkpoint": str(tmp_path / "start"), "revision": None}
    plan = PretrainClapPlan.model_validate({"settings": settings, "seed": 0})
    found = {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        store = ItemStore("pretrain_clap", CODE, tmp_path / f"store-{processes}")
        monkeypatch.setattr(pretraining, "default_processes", partial(int, processes))
        pretraining.pretrain(Pretraining.of(plan, store, corpus=corpus), folder)
        found[processes] = read_json(folder / "training.json"), load_file(folder / "model.safetensors")
    for one, two in zip(found[1][0]["curve"], found[2][0]["curve"], strict=True):
        shared = one.keys() - {"batch_accuracy"}
        assert [one[key] for key in shared] == pytest.approx([two[key] for key in shared], abs=1e-4)
    for key, value in found[1][1].items():
        torch.testing.assert_close(found[2][1][key], value, atol=1e-4, rtol=1e-4)


def test_without_audio_to_train_on_it_says_what_to_do(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", train=0)
    assert corpus.is_dir()
    with pytest.raises(DataError, match="keep_audio"):
        pretrain(tmp_path, TRAINED)
