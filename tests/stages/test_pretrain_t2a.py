from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_audio.pipeline_stable_audio import StableAudioPipeline
from safetensors.torch import load_file, save_file
from transformers import T5EncoderModel

from common.clap.training import build_clap
from common.corpus.vocabulary import build_vocabulary
from common.diffusion.backend import load_backend
from common.errors import DataError
from common.procedural.clips import CLASSES
from common.records.text import template_caption
from common.storage.artifacts import artifact_hash
from components.pretrain_t2a.run import run
from tests.kit.corpus import spectral_corpus
from tests.kit.models import CLAP_ARCHITECTURE, PRETRAIN_T2A


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.runtime.parallel.cpu_count", lambda: 1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spectral_corpus(tmp_path_factory.mktemp("inputs") / "corpus")


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clap")
    roomy = CLAP_ARCHITECTURE.model_copy(update={"max_tokens": 512})
    build_clap(roomy, build_vocabulary([template_caption(label) for label in CLASSES] * 3), seed=1).save(folder)
    return folder


def pretrain(corpus: Path, folder: Path, clap: Path | None = None, **settings: Any) -> dict[str, float | int | str]:
    config = {"settings": PRETRAIN_T2A | settings, "seed": 0.0}
    return run(
        str(corpus), str(folder / "t2a"), str(folder / "metrics.json"), clap_path=str(clap or ""), config=config,
        code_version="t",
    )  # fmt: skip


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
        patch.setattr(pretraining, "fit", lambda *a, **k: pytest.fail("trained again"))
        pretrain(corpus, tmp_path / "second")
    monkeypatch.setenv("SYNTHIO_STORE", str(tmp_path / "empty store"))
    pretrain(corpus, tmp_path / "third")
    hashes = {artifact_hash(tmp_path / name / "t2a") for name in ("first", "second", "third")}
    assert len(hashes) == 1


def test_a_published_pipeline_is_verified_and_handed_on(corpus, tmp_path):
    pretrain(corpus, tmp_path / "own")
    start = str(tmp_path / "own" / "t2a")
    figures = pretrain(corpus, tmp_path / "next", start=start, optim=None)
    assert figures["parameters"] > 0
    assert json.loads((tmp_path / "next" / "t2a" / "training.json").read_text())["curve"] == []
    assert artifact_hash(tmp_path / "own" / "t2a") == artifact_hash(tmp_path / "next" / "t2a")
    load_backend(tmp_path / "next" / "t2a")
    with pytest.raises(DataError, match="sha256"):
        pretrain(corpus, tmp_path / "wrong", start=start, optim=None, sha256={"model_index.json": "0" * 64})


def test_a_published_pipeline_is_trained_further(corpus, tmp_path):
    pretrain(corpus, tmp_path / "own")
    pretrain(corpus, tmp_path / "next", start=str(tmp_path / "own" / "t2a"))
    before, after = (load_backend(tmp_path / name / "t2a") for name in ("own", "next"))
    assert not torch.equal(before.transformer.proj_in.weight, after.transformer.proj_in.weight)
    assert torch.equal(before.text_encoder.shared.weight, after.text_encoder.shared.weight)


def test_a_pipeline_with_another_autoencoder_than_the_corpus_is_not_trained_further(corpus, tmp_path):
    pretrain(corpus, tmp_path / "own")
    start = tmp_path / "own" / "t2a"
    weights = load_file(start / "vae" / "diffusion_pytorch_model.safetensors")
    weights["center"] += 1
    save_file(weights, start / "vae" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(DataError, match="other weights than the one that encoded the corpus"):
        pretrain(corpus, tmp_path / "next", start=str(start))
    settings = json.loads((start / "vae" / "config.json").read_text())
    (start / "vae" / "config.json").write_text(json.dumps(settings | {"sampling_rate": 44100}))
    with pytest.raises(DataError, match=r"sample_rate_hz 44100, the corpus 16000"):
        pretrain(corpus, tmp_path / "rate", start=str(start))


def test_an_earlier_run_is_reused_when_its_hash_fits(corpus, tmp_path, monkeypatch):
    pretrain(corpus, tmp_path / "own")
    own = tmp_path / "own" / "t2a"
    monkeypatch.setenv("SYNTHIO_STORE", str(tmp_path / "empty store"))
    figures = pretrain(corpus, tmp_path / "next", reuse=str(own), reuse_sha256=artifact_hash(own))
    assert figures["steps"] == 10
    assert not (tmp_path / "empty store").exists()
    assert artifact_hash(own) == artifact_hash(tmp_path / "next" / "t2a")
    with pytest.raises(DataError, match="expected 00000"):
        pretrain(corpus, tmp_path / "wrong", reuse=str(own), reuse_sha256="0" * 64)


def test_what_is_heard_and_measured_with_a_clap_is_part_of_the_result(corpus, clap, tmp_path):
    optim = PRETRAIN_T2A["optim"] | {"evaluate_every": 5}
    pretrain(corpus, tmp_path, clap, monitor=PRETRAIN_T2A["monitor"] | {"every": 5}, optim=optim)
    training = json.loads((tmp_path / "t2a" / "training.json").read_text())
    measured = {row["step"]: row["clap_kernel"] for row in training["curve"] if "clap_kernel" in row}
    assert measured.keys() == {5, 10}
    assert training["best_step"] == min(measured, key=measured.__getitem__)
    monitor = tmp_path / "t2a" / "monitor"
    assert sorted(path.name for path in monitor.iterdir()) == ["step-10", "step-5"]
    assert json.loads((monitor / "step-5" / "prompts.json").read_text()) == training["prompts"]
    assert training["sha256"] == artifact_hash(tmp_path / "t2a")
    StableAudioPipeline.from_pretrained(tmp_path / "t2a")


def test_a_model_of_the_other_back_end_comes_out_of_the_same_stage(corpus, clap, tmp_path):
    pretrain(corpus, tmp_path, clap, backend="stable_audio_small")
    assert type(load_backend(tmp_path / "t2a")).__name__ == "StableAudioSmall"


def test_a_published_text_encoder_is_loaded_and_kept(corpus, tmp_path):
    pretrain(corpus, tmp_path / "own")
    published = tmp_path / "published"
    T5EncoderModel.from_pretrained(tmp_path / "own" / "t2a" / "text_encoder").half().save_pretrained(published)
    text_encoder = PRETRAIN_T2A["text_encoder"] | {"start": str(published), "conditioning_dim": 24}
    pretrain(corpus, tmp_path / "next", text_encoder=text_encoder)
    before = load_backend(tmp_path / "own" / "t2a").text_encoder.half().state_dict()
    after = load_backend(tmp_path / "next" / "t2a").text_encoder.state_dict()
    assert all(torch.equal(before[key].float(), after[key]) for key in before)


def test_a_run_without_generated_clips_trains_and_reads_nothing(tmp_path):
    config = {"settings": PRETRAIN_T2A | {"start": "/nowhere", "optim": None}, "seed": 0, "wanted": False}
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "manifest.json").write_text("{}")
    figures = run(
        str(tmp_path / "corpus"), str(tmp_path / "t2a"), str(tmp_path / "metrics.json"), config=config, code_version="t"
    )
    assert figures == {}
    assert json.loads((tmp_path / "t2a" / "training.json").read_text()) == {"curve": []}
    assert not list((tmp_path / "t2a").rglob("*.safetensors"))
