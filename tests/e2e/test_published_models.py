"""Presets of published models, from an empty model cache to the report, on stand-ins from a hub on this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from huggingface_hub import constants

from common.models import registry
from pipelines.commands import main
from tests.kit.forked import run_command
from tests.kit.hub import hub_server
from tests.kit.models import T2A_SHAPES
from tests.kit.once import Compiled
from tests.kit.published import (
    AST,
    CLAP,
    ESC50_LABELS,
    FLAN_T5,
    LARGER_CLAP,
    QWEN_AUDIO,
    QWEN_CHAT,
    STABLE_AUDIO,
    WHISPER,
    list_stand_ins,
    publish_models,
    write_esc50,
)
from tests.kit.smoke import record
from tests.unit.captions.stub import good, serve

pytestmark = pytest.mark.e2e

SAMPLER = {"steps": 2, "batch_size": 8}
BRIEF: dict[str, Any] = {
    "rounds": 1,
    "synthesize_audio.sampler": SAMPLER,
    "align_t2a.optim.warmup_steps": 0,
    "align_t2a.optim.steps": 2,
    "align_t2a.optim.batch_size": 4,
    "align_t2a.sampler": SAMPLER,
    "finetune_clap.optim.warmup_steps": 0,
    "finetune_clap.optim.evaluate_every": 2,
    "finetune_clap.optim.steps": 2,
    "finetune_clap.optim.batch_size": 4,
    "caption_clips.audio_llm.max_new_tokens": 8,
    "augment_captions.writer.chat_model.max_new_tokens": 16,
    "revise_captions.writer.chat_model.max_new_tokens": 16,
    "train_classifier.optim.warmup_steps": 0,
    "train_classifier.optim.record_every": 1,
    "train_classifier.optim.steps": 2,
    "train_classifier.optim.batch_size": 4,
    "train_classifier.optim.evaluate_every": 2,
    "train_classifier.oracle_steps": 2,
    "train_classifier.learners.cnn_steps": 2,
    "train_classifier.learners.splits": 1,
    "train_classifier.learners.synthetic_weights": [0, 1],
    "evaluate_classifier.neighbours_checked": 2,
}
"""Settings that leave of each training and each sampling what shows that it works."""


def run_preset(
    preset: str, models: Sequence[str], settings: dict[str, Any], folder: Path, compiled: Compiled, *options: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fetch the models of a preset from the hub, then run it without one: the contents of report.json and run.json."""
    overrides = " ".join(f"{name}={json.dumps(value, separators=(',', ':'))}" for name, value in settings.items())
    write_esc50(folder / "data" / "esc50")
    listed = folder / "models.yaml"
    listed.write_bytes(registry.MODELS_FILE.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "MODELS_FILE", listed)
        patch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
        patch.setenv("SYNTHIO_DATA", str(folder / "data"))
        with hub_server() as hub, pytest.MonkeyPatch.context() as online:
            publish_models(hub, folder / "published", ESC50_LABELS, models)
            list_stand_ins(hub, listed)
            registry.published_models.cache_clear()
            online.setattr(constants, "ENDPOINT", hub.url)
            online.setattr(
                constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
            )
            online.setattr(constants, "HF_HUB_OFFLINE", False)
            online.setenv("HF_TOKEN", hub.token)
            assert main(["fetch-models", "--preset", preset, "--overrides", overrides]) == 0
        run = ["run-pipeline", "--dataset", "esc50", "--preset", preset, "--n", "6", "--seeds", "1", *options]
        run += ["--overrides", overrides, "--runs", str(folder / "runs")]
        status = run_command(run, compiled, folder / "printed.txt")
    registry.published_models.cache_clear()
    assert status == 0, (folder / "printed.txt").read_text(encoding="utf-8")[-3000:]
    latest = (folder / "runs" / "latest").resolve()
    return json.loads((latest / "report.json").read_text(encoding="utf-8")), record(latest)


SMALL = (STABLE_AUDIO, CLAP, LARGER_CLAP, WHISPER, AST, QWEN_AUDIO, QWEN_CHAT)


def test_small_from_an_empty_cache_to_the_report(tmp_path: Path, compiled: Compiled) -> None:
    methods = ("--methods", "gold,vanilla,synthio")
    report, run = run_preset("small", SMALL, BRIEF, tmp_path, compiled, *methods)
    assert report["methods"].keys() == {"gold", "vanilla", "synthio"} and report["failures"] == []
    assert {"probe_larger_clap", "probe_whisper"} <= report["learners"].keys()
    assert all(row["state"] == "succeeded" for row in run["stages"])
    assert any("come from Freesound" in caution for caution in report["verdict"]["cautions"])
    assert sum(row["accepted"] for row in report["rounds"]) and sum(row["rejected"] for row in report["rounds"])
    assert not list((tmp_path / "hub").rglob("*.bin")) and not list((tmp_path / "runs").rglob("*.bin"))


def write_captioned_audio(folder: Path) -> dict[str, Any]:
    """Sixteen stereo recordings with captions: the settings that name them."""
    folder.mkdir()
    lines = ["file,caption"]
    for number in range(16):
        noise = 0.1 * np.random.default_rng(number).standard_normal((22050, 2))
        soundfile.write(folder / f"{number}.wav", noise, 44100)
        lines.append(f"{number}.wav,{('a dog in a hall', 'rain at night')[number % 2]} number {number}")
    (folder / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"prepare_corpus.audio_dir": str(folder), "prepare_corpus.captions_file": str(folder / "captions.csv")}


def test_small_compares_with_a_corpus_where_it_has_one_and_needs_no_further_model(
    tmp_path: Path, compiled: Compiled
) -> None:
    corpus = {"prepare_corpus.source": "folder", **write_captioned_audio(tmp_path / "corpus")}
    report, _ = run_preset("small", SMALL, BRIEF | corpus, tmp_path, compiled)
    assert {"retrieval", "corpus_label", "synthio_corpus"} <= report["methods"].keys() and report["failures"] == []


def test_paper_from_a_corpus_of_ones_own_to_the_report(tmp_path: Path, compiled: Compiled) -> None:
    tiny = {
        **write_captioned_audio(tmp_path / "corpus"),
        "prepare_corpus.durations_s": [0.5],
        "prepare_corpus.clips_per_shard": 4,
        "prepare_corpus.heldout_fraction": 0.25,
        "pretrain_t2a.transformer": {**T2A_SHAPES["transformer"], "window_s": 0.5},
        "pretrain_t2a.text_encoder.conditioning_dim": 16,
        "pretrain_t2a.monitor": {"clips": 0, "prompt_count": 0},
        "pretrain_t2a.keep_best_by": "last",
        "pretrain_t2a.optim": {"steps": 2, "batch_size": 4, "learning_rate": 1e-4, "precision": "bf16"},
        "align_t2a.optim.evaluate_every": 2,
        "train_classifier.recipe": "paper",
    }
    with serve(good) as writer:
        options = ("--methods", "gold,retrieval,background_noise,synthio", "--llm-endpoint", writer.url)
        models = (STABLE_AUDIO, FLAN_T5, CLAP, LARGER_CLAP, WHISPER, AST, QWEN_AUDIO)
        report, run = run_preset("paper", models, BRIEF | tiny, tmp_path, compiled, *options)
    assert writer.requests and report["failures"] == []
    assert report["methods"].keys() == {"gold", "retrieval", "background_noise", "synthio"}
    assert all(row["state"] == "succeeded" for row in run["stages"])
