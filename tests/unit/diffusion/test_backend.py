from __future__ import annotations

import json
import sys
import time

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck
from diffusers.pipelines.stable_audio.pipeline_stable_audio import StableAudioPipeline
from diffusers.schedulers.scheduling_edm_euler import EDMEulerScheduler

from common.config.t2a import PretrainT2AConfig, SamplerConfig
from common.diffusion import backends
from common.diffusion.backend import error, load_backend
from common.diffusion.backends.stable_audio import StableAudio
from common.diffusion.sampling import sample
from common.diffusion.text import join
from common.errors import DataError
from common.storage.artifacts import artifact_hash
from components.pretrain_t2a.architecture import build_text_encoder, build_transformer, latent_channels
from tests.kit.models import build_t2a

CAPTIONS = ["sound of a bell", "sound of a dog bark", "a siren"]


def test_saving_and_loading_is_bit_exact(backend, tmp_path):
    backend.save(tmp_path)
    loaded = load_backend(tmp_path)
    for name in ("transformer", "text_encoder", "projection", "vae"):
        saved, found = getattr(backend, name).state_dict(), getattr(loaded, name).state_dict()
        assert saved.keys() == found.keys()
        assert all(torch.equal(saved[key], found[key]) for key in saved)
    before, after = (b.condition(CAPTIONS, [1.0] * 3) for b in (backend, loaded))
    x, t = torch.randn(3, 48, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([0.1, 0.5, 0.9])
    assert torch.equal(before.cross, after.cross)
    assert torch.equal(backend.predict(x, t, before), loaded.predict(x, t, after))


def test_a_model_saved_again_from_another_folder_has_the_same_hash(backend, tmp_path):
    backend.save(tmp_path / "a")
    load_backend(tmp_path / "a").save(tmp_path / "b")
    load_backend(tmp_path / "b").save(tmp_path / "c")
    assert artifact_hash(tmp_path / "b") == artifact_hash(tmp_path / "c")


def test_the_saved_folder_plays_in_the_stock_pipeline(backend, tmp_path):
    backend.save(tmp_path)
    pipeline = StableAudioPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    audio = pipeline("sound of a bell", audio_end_in_s=0.5, num_inference_steps=3, generator=generator).audios
    assert audio.shape == (1, 1, 8000)
    assert torch.isfinite(audio).all()
    assert audio.abs().max() > 0


def test_condition_equals_the_stock_pipelines(backend):
    pipeline = backend.pipeline
    text = pipeline.encode_prompt(CAPTIONS, "cpu", False)
    start, end = pipeline.encode_duration(0.0, 0.7, "cpu", False, 3)
    condition = backend.condition(CAPTIONS, [0.7] * 3)
    assert torch.equal(condition.cross, torch.cat([text, start, end], dim=1))
    assert torch.equal(condition.global_, torch.cat([start, end], dim=2))


def test_trimming_the_text_changes_nothing_but_rounding(backend):
    ids, mask = (torch.tensor(backend.tokenizer(CAPTIONS, padding="max_length", max_length=64)[key])
                 for key in ("input_ids", "attention_mask"))  # fmt: skip
    durations = torch.tensor([0.5, 1.0, 1.0])
    full, trimmed = (backend.condition_tokens(ids, mask, durations, trim=trim) for trim in (False, True))
    assert trimmed.cross.shape == full.cross.shape == (3, 66, 32)
    assert torch.allclose(full.cross, trimmed.cross, atol=1e-5)


def test_rows_and_join_are_inverse(backend):
    condition = backend.condition(CAPTIONS, [0.5, 0.7, 1.0])
    again = join([condition[[0]], condition[1:]])
    assert torch.equal(again.cross, condition.cross)
    assert torch.equal(again.global_, condition.global_)


@pytest.mark.parametrize(
    ("duration_s", "frames"), [(1.024, 32), (1.0, 32), (0.032, 1), (0.0321, 2), (0.001, 1), (5.0, 32)]
)
def test_frames_hold_the_duration_up_to_the_window(backend, duration_s, frames):
    assert backend.frames(duration_s) == frames
    assert backend.window_s == pytest.approx(1.024)


def test_encoding_pads_mixes_down_and_ignores_the_batch(backend, clips):
    audio = torch.from_numpy(clips[:4])[:, None, :16000]
    latents = backend.encode(audio)
    assert latents.shape == (4, 48, 32)
    assert torch.equal(backend.encode(audio[2:3]), latents[2:3])
    assert torch.allclose(backend.encode(audio.expand(-1, 2, -1)), latents, atol=1e-4)
    assert torch.equal(latents, backend.encode(torch.nn.functional.pad(audio, (0, 384))))


def test_learned_autoencoder_encodes_scores_samples_and_decodes_within_three_seconds(oobleck_backend):
    start = time.monotonic()
    backend = oobleck_backend
    audio = 0.1 * torch.randn(2, 1, 8192, generator=torch.Generator().manual_seed(0))
    latents = backend.encode(audio)
    assert latents.shape == (2, 4, 128)
    condition = backend.condition(CAPTIONS[:2], [1.024] * 2)
    errors = error(backend, latents, torch.randn_like(latents), torch.tensor([0.3, 0.6]), condition)
    errors.mean().backward()
    assert backend.transformer.proj_in.weight.grad.abs().sum() > 0
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    generated = sample(backend, CAPTIONS[:2], [0.5] * 2, generators, SamplerConfig(steps=4, batch_size=2), 63)
    assert generated.shape == (2, 4, 63)
    decoded = backend.decode(generated)
    assert decoded.shape == (2, 2, 63 * 64)
    assert torch.isfinite(decoded).all()
    assert time.monotonic() - start < 3


def test_default_shapes_are_those_of_stable_audio_open():
    config = PretrainT2AConfig()
    with torch.device("meta"):
        vae = AutoencoderOobleck()
        transformer = build_transformer(config, latent_channels(vae), 1024)
        text_encoder = build_text_encoder(config.text_encoder, 32128)
    sizes = [sum(p.numel() for p in model.parameters()) / 1e6 for model in (transformer, vae, text_encoder)]
    assert sizes == pytest.approx([1057, 156, 341], rel=0.005)
    assert transformer.config.in_channels == 64
    assert transformer.config.global_states_input_dim == 1536


def test_a_scheduler_with_another_timestep_is_refused(backend, tmp_path):
    backend.pipeline.scheduler = EDMEulerScheduler()
    backend.save(tmp_path)
    with pytest.raises(DataError, match="part scheduler is EDMEulerScheduler, expected CosineDPM"):
        load_backend(tmp_path)


def test_a_folder_without_a_pipeline_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="no readable model_index"):
        load_backend(tmp_path)
    classes = {part: ["diffusers", names[0]] for part, names in StableAudio.parts.items()}
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableAudioPipeline", **classes}))
    with pytest.raises(DataError, match="no StableAudioPipeline in"):
        load_backend(tmp_path)


def test_model_hash_sees_weights_but_not_the_training_record(backend, tmp_path):
    backend.save(tmp_path / "a")
    first = artifact_hash(tmp_path / "a")
    (tmp_path / "a" / "training.json").write_text("{}")
    assert artifact_hash(tmp_path / "a") == first
    with torch.no_grad():
        backend.transformer.proj_in.weight[0, 0] += 1e-3
    backend.save(tmp_path / "b")
    assert artifact_hash(tmp_path / "b") != first


def test_a_back_end_is_one_module(tmp_path):
    (tmp_path / "toy_backend.py").write_text(
        "from common.diffusion.backends.stable_audio import StableAudio\n"
        "class ToyPipeline(StableAudio.pipeline_class):\n"
        "    pass\n"
        "class Toy(StableAudio):\n"
        "    pipeline_class = ToyPipeline\n"
        "BACKEND = Toy\n"
    )
    backends.__path__.append(str(tmp_path))
    try:
        build_t2a(backend="toy_backend").save(tmp_path / "model")
        assert type(load_backend(tmp_path / "model")).__name__ == "Toy"
    finally:
        backends.__path__.remove(str(tmp_path))
        sys.modules.pop("common.diffusion.backends.toy_backend", None)
    with pytest.raises(DataError, match="holds a ToyPipeline, expected a StableAudioPipeline or"):
        load_backend(tmp_path / "model")
