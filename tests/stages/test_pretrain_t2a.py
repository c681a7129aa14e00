from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_audio.pipeline_stable_audio import StableAudioPipeline

from common.diffusion.backend import StableAudio, model_hash
from common.errors import DataError
from components.prepare_corpus.run import run as prepare_corpus
from components.pretrain_t2a.run import run

SHAPES: dict[str, Any] = {
    "transformer": {
        "num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 16, "num_key_value_attention_heads": 1,
        "cross_attention_dim": 16, "time_proj_dim": 16, "window_s": 1.024,
    },
    "text_encoder": {
        "start": "random", "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2,
        "conditioning_dim": 16, "max_seconds": 8.0,
    },
    "sigma_min": 0.03, "sigma_max": 80.0, "precision": "fp32",
    "optim": {"steps": 10.0, "batch_size": 8.0, "learning_rate": 1e-3, "record_every": 5},
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.parallel.cpu_count", lambda: 1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    settings = {
        "source": "procedural", "clips": 56, "durations_s": [0.512, 1.024], "sample_rate_hz": 16000, "channels": 1,
        "clips_per_shard": 14, "heldout_fraction": 0.25, "vae": "spectral", "tokenizer": "embedded", "max_tokens": 64,
        "codec": {"latent_channels": 16, "griffin_lim_steps": 2},
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHIO_STORE", str(tmp_path_factory.mktemp("corpus_store")))
        config = {"settings": settings, "seed": 0}
        prepare_corpus(str(folder / "corpus"), str(folder / "metrics.json"), config=config, code_version="t")
    return folder / "corpus"


def pretrain(corpus: Path, folder: Path, **settings: Any) -> dict[str, float | int | str]:
    config = {"settings": SHAPES | settings, "seed": 0.0}
    return run(str(corpus), str(folder / "t2a"), str(folder / "metrics.json"), config=config, code_version="t")


def test_stage_writes_a_pipeline_that_plays_in_the_stock_class(corpus, tmp_path):
    figures = pretrain(corpus, tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text()) == figures
    training = json.loads((tmp_path / "t2a" / "training.json").read_text())
    assert [row["step"] for row in training["curve"]] == [5, 10]
    assert training["held_out_loss"] == figures["held_out_loss"] > 0
    assert figures["steps"] == 10
    pipeline = StableAudioPipeline.from_pretrained(tmp_path / "t2a")
    pipeline.set_progress_bar_config(disable=True)
    names = [type(getattr(pipeline, part)).__name__ for part in ("text_encoder", "transformer", "scheduler", "vae")]
    assert names == ["T5EncoderModel", "StableAudioDiTModel", "CosineDPMSolverMultistepScheduler", "SpectralCodec"]
    generator = torch.Generator().manual_seed(0)
    audio = pipeline("sound of an unheard-of 犬", num_inference_steps=2, generator=generator).audios
    assert audio.shape == (1, 1, 16384)
    assert torch.isfinite(audio).all()


def test_a_second_run_takes_the_finished_item_and_gives_the_same_bytes(corpus, tmp_path, monkeypatch):
    pretrain(corpus, tmp_path / "first")
    import components.pretrain_t2a.pretraining as pretraining

    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "train", lambda *a, **k: pytest.fail("trained again"))
        pretrain(corpus, tmp_path / "second")
    monkeypatch.setenv("SYNTHIO_STORE", str(tmp_path / "empty store"))
    pretrain(corpus, tmp_path / "third")
    hashes = {model_hash(tmp_path / name / "t2a") for name in ("first", "second", "third")}
    assert len(hashes) == 1


def test_a_published_pipeline_is_verified_and_handed_on(corpus, tmp_path):
    pretrain(corpus, tmp_path / "own")
    figures = pretrain(corpus, tmp_path / "next", start=str(tmp_path / "own" / "t2a"))
    assert figures["parameters"] > 0
    assert json.loads((tmp_path / "next" / "t2a" / "training.json").read_text())["curve"] == []
    assert model_hash(tmp_path / "own" / "t2a") == model_hash(tmp_path / "next" / "t2a")
    StableAudio.load(tmp_path / "next" / "t2a")
    with pytest.raises(DataError, match="sha256"):
        wrong = {"model_index.json": "0" * 64}
        pretrain(corpus, tmp_path / "wrong", start=str(tmp_path / "own" / "t2a"), sha256=wrong)


def test_a_published_text_encoder_is_loaded_and_kept(corpus, tmp_path):
    pretrain(corpus, tmp_path / "own")
    published = tmp_path / "own" / "t2a" / "text_encoder"
    text_encoder = SHAPES["text_encoder"] | {"start": str(published)}
    pretrain(corpus, tmp_path / "next", text_encoder=text_encoder)
    before = StableAudio.load(tmp_path / "own" / "t2a").text_encoder.state_dict()
    after = StableAudio.load(tmp_path / "next" / "t2a").text_encoder.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
