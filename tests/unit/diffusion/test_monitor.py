from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch

from common.clap.figures import frechet_distance, kernel_distance
from common.clap.training import build_clap
from common.config.t2a import MonitorConfig, SamplerConfig
from common.corpus.vocabulary import build_vocabulary
from common.storage import open_store
from common.storage.s3_client import S3Error
from components.pretrain_t2a.monitor import KEPT, Judge, Monitor, collect, discard
from tests.kit.models import CLAP_ARCHITECTURE
from tests.unit.diffusion.conftest import RATE_HZ
from tests.unit.diffusion.test_pretraining import CAPTIONS, latent

CONFIG = MonitorConfig(every=4, clips=6, prompt_count=2, sampler=SamplerConfig(steps=2, batch_size=4, guidance_scale=1))


@pytest.fixture(scope="module")
def scorer():
    return build_clap(CLAP_ARCHITECTURE, build_vocabulary(CAPTIONS), seed=0)


@pytest.fixture
def held_out():
    return [latent(i, np.zeros((48, 16 if i % 3 == 0 else 32), np.float32), CAPTIONS[i]) for i in range(6)]


def monitor(backend, held_out, judge=None, store=None, config=CONFIG, steps=10):
    return Monitor(backend, config, held_out, judge=judge, store=store, seed=0, steps=steps)


def test_generated_clips_are_measured_against_real_ones(backend, held_out, scorer, clips):
    real = scorer.embed_audio(list(clips[:6]), RATE_HZ)
    judge = Judge(scorer, real, scorer.embed_text([row.caption for row in held_out]))
    looks = monitor(backend, held_out, judge)
    figures = looks(4)
    assert figures.keys() == {"clap_frechet", "clap_kernel", "clap_score"}
    made = looks._generate(looks._captions, looks._durations, "held out")
    assert [len(clip) for clip in made] == [round(row.duration_s * RATE_HZ) for row in held_out]
    embedded = scorer.embed_audio(made, RATE_HZ)
    assert figures["clap_frechet"] == pytest.approx(frechet_distance(real, embedded))
    assert figures["clap_kernel"] == pytest.approx(kernel_distance(real, embedded))
    assert figures["clap_score"] == pytest.approx(float((embedded * judge.texts).sum(1).mean()))
    assert looks(4) == figures


def test_the_real_clips_themselves_are_nearest(scorer, clips):
    real = scorer.embed_audio(list(clips[:12]), RATE_HZ)
    judge = Judge(scorer, real, scorer.embed_text(CAPTIONS[:12]))
    noise = np.random.default_rng(0).standard_normal((12, RATE_HZ)).astype(np.float32) * 0.1
    assert (
        judge.figures(list(clips[:12]), RATE_HZ)["clap_frechet"] < judge.figures(list(noise), RATE_HZ)["clap_frechet"]
    )


def test_it_looks_at_its_steps_and_at_the_last_one_only(backend, held_out, tmp_path):
    looks = monitor(backend, held_out, store=open_store(tmp_path), steps=10)
    for step in range(1, 11):
        looks(step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-4", "step-8"]


def test_a_store_that_is_away_costs_the_clips_to_listen_to_and_not_the_training(backend, held_out, tmp_path):
    class Away(type(open_store(tmp_path))):
        def upload(self, key, path):
            if key.startswith("step-4/"):
                raise S3Error("the store is away", "", away=True)
            if key.startswith("step-10/"):
                raise S3Error("the store is full", "QuotaExceeded")
            super().upload(key, path)

    looks = monitor(backend, held_out, store=Away(tmp_path))
    looks(4)
    looks(8)
    assert [path.name for path in tmp_path.iterdir()] == ["step-8"]
    with pytest.raises(S3Error, match="full"):
        looks(10)


def test_sounds_and_spectrograms_of_the_newest_looks_are_kept_and_collected(backend, held_out, tmp_path):
    store = open_store(tmp_path / "store")
    config = CONFIG.model_copy(update={"every": 1, "prompts": ("a bell", "a dog")})
    looks = monitor(backend, held_out, store=store, config=config, steps=7)
    for step in range(1, 8):
        looks(step)
    collect(store, tmp_path / "model")
    folder = tmp_path / "model" / "monitor"
    assert sorted(path.name for path in folder.iterdir()) == [f"step-{n}" for n in range(8 - KEPT, 8)]
    assert json.loads((folder / "step-7" / "prompts.json").read_text()) == ["a bell", "a dog"]
    audio, rate = soundfile.read(folder / "step-7" / "01.flac")
    assert (len(audio), rate) == (round(backend.window_s * RATE_HZ), RATE_HZ)
    assert (folder / "step-7" / "01.png").read_bytes().startswith(b"\x89PNG")
    discard(store)
    assert not list(store.list())


def test_prompts_are_the_first_different_captions_unless_given(backend, held_out):
    assert monitor(backend, [*held_out[:1], *held_out]).prompts == CAPTIONS[:2]


def test_looking_changes_neither_weights_nor_the_random_state(backend, held_out):
    before = [value.clone() for value in backend.transformer.state_dict().values()]
    state = torch.random.get_rng_state()
    monitor(backend, held_out)(4)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(before, backend.transformer.state_dict().values(), strict=True))
