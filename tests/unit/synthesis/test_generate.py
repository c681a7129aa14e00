from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from common.audio.signal import rms_dbfs, write_flac
from common.config.recipes import LOSERS
from common.config.t2a import SamplerConfig, SynthesizeAudioConfig
from common.diffusion.backend import load_backend
from common.diffusion.text import Condition
from common.errors import ConfigError
from common.records.clips import template_prompts
from common.registered import names
from common.storage.hashing import hash_file
from components.synthesize_audio.generate import compile_blocks, finish, load_model, resolve_precision, sample_batch
from components.synthesize_audio.requests import Request, Source
from tests.kit.clips import gold_clip
from tests.kit.gpu import pretend_gpu
from tests.kit.models import build_t2a
from tests.kit.sounds import RATE, tone

SETTINGS = SynthesizeAudioConfig(sampler=SamplerConfig(steps=4, guidance_scale=2.0, batch_size=2))


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build_t2a(0).save(folder)
    return folder


def request(source: Source | None = None, frames: int = 16, level_dbfs: float = -20.0) -> Request:
    return Request(
        template_prompts([gold_clip("a", "dog_bark")], 0, 1, LOSERS.name)[0],
        "m",
        "m",
        7,
        0.5,
        frames,
        level_dbfs,
        source,
    )


def sine(duration_s: float, level: float = 0.1) -> np.ndarray:
    time = np.arange(round(duration_s * RATE)) / RATE
    return (level * np.sin(2 * np.pi * 440 * time)).astype(np.float32)[None]


def test_a_finished_clip_has_its_length_its_rate_and_its_source_clips_loudness() -> None:
    made = finish(sine(0.6), request(), RATE, SETTINGS.model_copy(update={"sample_rate_hz": 8000}))
    assert (made.sample_rate_hz, made.audio.shape, made.signal) == (8000, (1, 4000), "ok")
    assert rms_dbfs(made.audio) == pytest.approx(-20, abs=0.01)
    assert finish(sine(0.6), request(), RATE, SETTINGS).audio.shape == (1, 8000)


def test_loudness_stops_at_the_peak_limit() -> None:
    made = finish(sine(0.6), request(level_dbfs=0.0), RATE, SETTINGS)
    assert 20 * np.log10(np.abs(made.audio).max()) == pytest.approx(-1, abs=0.01)


@pytest.mark.parametrize("reason", ["nan", "silence", "dc", "clipping", "clicks"])
def test_a_clip_with_a_fault_is_kept_with_its_reason_and_finite_samples(reason: str) -> None:
    audio = sine(0.6, 0.3)
    if reason == "nan":
        audio[0, 100] = np.nan
    elif reason == "silence":
        audio *= 0
    elif reason == "dc":
        audio += 0.5
    elif reason == "clipping":
        audio = np.clip(5 * audio, -1, 1)
    else:
        audio[0, 500:8000:500] += 0.9
    made = finish(audio, request(), RATE, SETTINGS)
    assert made.signal == reason and np.isfinite(made.audio).all()
    assert (made.gain_db == 0) == (reason in ("nan", "silence"))


def test_bf16_is_near_fp32_and_auto_is_fp32_on_the_cpu(model_dir: Path) -> None:
    made = {}
    for precision in ("auto", "fp32", "bf16"):
        settings = SETTINGS.model_copy(update={"precision": precision})
        loaded = load_model(str(model_dir), "cpu", settings)
        assert loaded.environment()["precision"] == ("bf16" if precision == "bf16" else "fp32")
        made[precision] = sample_batch(loaded.backend, [request()] * 2, settings, loaded.texts)
    assert torch.equal(made["auto"], made["fp32"])
    difference = (made["bf16"] - made["fp32"]).norm() / made["fp32"].norm()
    assert 0 < difference < 0.05


def test_bf16_on_a_gpu_without_it_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, bf16=False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old GPU")
    assert resolve_precision("auto", "cuda:0") == "fp32"
    with pytest.raises(ConfigError, match="Old GPU only emulates it"):
        resolve_precision("bf16", "cuda:0")
    pretend_gpu(monkeypatch, bf16=True)
    assert resolve_precision("auto", "cuda:0") == "bf16"


@pytest.mark.parametrize("name", names("common.diffusion.backends"))
def test_in_bf16_the_network_still_tells_all_times_apart(name: str) -> None:
    exact, half = (build_t2a(0, name) for _ in range(2))
    half.to_bf16()
    times = torch.linspace(0.98, 1, 50)
    features = []
    for backend in (exact, half):
        backend.transformer.time_proj.register_forward_hook(lambda module, inputs, output: features.append(output))
        condition = backend.condition(["a dog"], [0.5])[torch.zeros(50, dtype=torch.long)]
        condition = Condition(condition.cross.to(backend.dtype), condition.global_.to(backend.dtype))
        with torch.no_grad():
            made = backend.predict(torch.zeros(50, backend.latent_channels, 8, dtype=backend.dtype), times, condition)
        assert made.dtype == backend.dtype
    assert half.dtype == torch.bfloat16 and torch.equal(features[0].bfloat16(), features[1])
    assert len(features[0].unique(dim=0)) == 50


@pytest.mark.e2e
def test_compiled_blocks_sample_what_the_others_do(model_dir: Path) -> None:
    backend = load_backend(model_dir)
    expected = sample_batch(backend, [request()] * 2, SETTINGS)
    compile_blocks(backend.transformer, "eager")
    assert torch.allclose(sample_batch(backend, [request()] * 2, SETTINGS), expected, atol=1e-4)
    with pytest.raises(ConfigError, match="no transformer_blocks"):
        compile_blocks(torch.nn.Linear(1, 1))


def test_a_long_source_clip_starts_from_its_loudest_window(tmp_path: Path, model_dir: Path) -> None:
    backend = load_backend(model_dir)
    loud = tone("dog_bark", 0, 0.5)
    quiet = 0.01 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    latents = {}
    for name, audio in {"alone": loud, "within": np.concatenate([quiet, loud, quiet])}.items():
        write_flac(tmp_path / f"{name}.flac", audio, RATE)
        source = Source(str(tmp_path / f"{name}.flac"), hash_file(tmp_path / f"{name}.flac"), 0.01, len(audio) / RATE)
        latents[name] = sample_batch(backend, [request(source)], SETTINGS)
    assert torch.allclose(latents["alone"], latents["within"], atol=0.05)
