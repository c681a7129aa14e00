"""Classifiers of transformers other than AST: on waveforms, and on spectrograms of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2ForSequenceClassification, pipeline

from common.classifier.inference import probabilities
from common.classifier.model import Classifier, load_classifier, save_classifier, with_fresh_head
from common.config.base import OptimConfig
from common.config.classifier import RecordingConfig, SpecAugmentConfig
from common.config.train_classifier import ContrastiveConfig
from common.errors import ConfigError
from components.train_classifier.budget import make_budget
from components.train_classifier.contrastive import train_body
from components.train_classifier.training import Examples, train
from tests.kit.models import wav2vec2_config, write_other_classifier
from tests.kit.predictions import predict_logits

RATE = 16000
WINDOW_S = 0.25


@pytest.fixture(scope="module", params=["wav2vec2", "hubert", "whisper"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp(request.param)
    write_other_classifier(request.param, made)
    return made


@pytest.fixture(scope="module")
def wave(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    made = tmp_path_factory.mktemp("wave")
    write_other_classifier("hubert", made)
    return load_classifier(made, WINDOW_S)


def tones(count: int, seconds: float, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    time = np.arange(round(seconds * RATE)) / RATE
    clips = [0.5 * np.sin(2 * np.pi * 200 * 4**label * time * rng.uniform(0.9, 1.1)) for label in labels]
    return [clip.astype(np.float32) for clip in clips], labels


def test_a_clip_of_one_window_gets_the_answer_of_the_stock_pipeline(folder: Path) -> None:
    loaded = load_classifier(folder, WINDOW_S)
    clips, _ = tones(3, loaded.front_end.max_length / RATE)
    stock = pipeline("audio-classification", model=str(folder))
    for clip, row in zip(clips, probabilities(predict_logits(loaded, clips, RATE)), strict=True):
        found = {entry["label"]: entry["score"] for entry in stock(clip, top_k=None)}
        assert [found[label] for label in loaded.labels] == pytest.approx(row.tolist(), abs=1e-5)


def test_where_the_extractor_gives_a_mask_a_short_clip_is_not_changed_by_its_padding(wave: Classifier) -> None:
    clips, _ = tones(3, 0.1)
    with torch.inference_mode():
        inputs = wave.extractor(clips, sampling_rate=RATE, return_tensors="pt")
        expected = wave.model(**inputs).logits.numpy()
    np.testing.assert_allclose(predict_logits(wave, clips, RATE), expected, atol=1e-5)


def test_a_long_clip_is_judged_in_windows(wave: Classifier) -> None:
    clips, _ = tones(2, 2 * WINDOW_S)
    half = wave.front_end.max_length
    parts = predict_logits(wave, [clips[1][:half], clips[1][half:]], RATE)
    np.testing.assert_allclose(predict_logits(wave, clips[1:], RATE)[0], parts.mean(axis=0), atol=1e-6)


def test_a_fresh_head_keeps_the_body_and_survives_saving(folder: Path, tmp_path: Path) -> None:
    old = load_classifier(folder, WINDOW_S)
    fresh = with_fresh_head(old, ["x", "y"], seed=3)
    before, after = old.model.state_dict(), fresh.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before if not key.startswith("classifier"))
    save_classifier(fresh, tmp_path)
    again = load_classifier(tmp_path)
    assert again.labels == ["x", "y"]
    assert again.front_end == fresh.front_end == old.front_end
    clips, _ = tones(2, 0.3)
    np.testing.assert_array_equal(predict_logits(again, clips, RATE), predict_logits(fresh, clips, RATE))


def test_weights_that_the_files_lack_are_the_same_at_each_load(tmp_path: Path) -> None:
    write_other_classifier("wav2vec2", tmp_path)
    Wav2Vec2ForSequenceClassification(wav2vec2_config()).wav2vec2.save_pretrained(tmp_path)
    torch.manual_seed(1)
    first = load_classifier(tmp_path).model.state_dict()
    torch.manual_seed(2)
    again = load_classifier(tmp_path).model.state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.e2e
def test_a_model_on_waveforms_is_trained_and_repeats_bit_for_bit(wave: Classifier) -> None:
    clips, labels = tones(12, 0.3)
    front_end = wave.front_end
    data = Examples([[clip] for clip in front_end(clips)], labels)
    optim = OptimConfig(steps=60, batch_size=6, learning_rate=3e-3, evaluate_every=20, record_every=20)
    budget = make_budget(
        labels, np.array([], dtype=np.int64), steps=60, batch_size=6, synthetic_fraction=0.5,
        seed=0,
    )  # fmt: skip
    options: dict[str, Any] = {"select_by": "accuracy", "seed": 2, "mixup_alpha": 0.1}
    results = []
    for unrelated in (1, 2):
        torch.manual_seed(unrelated)
        np.random.seed(unrelated)
        fresh = with_fresh_head(wave, ["a", "b", "c"], seed=5)
        results.append(train(fresh, data, data, budget, optim, specaugment=None, **options))
    assert results[0] == results[1]
    assert results[0]["val_accuracy"] > 0.5
    assert results[0]["curve"][-1]["loss"] < results[0]["curve"][0]["loss"]
    with pytest.raises(ConfigError, match="takes waveforms"):
        train(fresh, data, data, budget, optim, specaugment=(SpecAugmentConfig(), 0.1), **options)
    with pytest.raises(ConfigError, match="takes waveforms"):
        train(fresh, data, data, budget, optim, specaugment=None, recording=RecordingConfig(gain_db=10), **options)


def test_the_body_of_a_model_on_waveforms_is_trained_contrastively(wave: Classifier) -> None:
    clips, labels = tones(6, 0.3)
    data = Examples([[clip] for clip in wave.front_end(clips)], labels)
    optim = OptimConfig(steps=15, batch_size=12, learning_rate=1e-2, record_every=5)
    config = ContrastiveConfig(optim=optim, hidden_size=16, dimensions=8)
    fresh = with_fresh_head(wave, ["a", "b", "c"], seed=5)
    curve = train_body(fresh, data, 6, np.array([], dtype=np.int64), config, seed=1)
    assert curve[-1]["loss"] < curve[0]["loss"]


def test_an_unsupported_feature_extractor_is_refused_by_name(tmp_path: Path) -> None:
    write_other_classifier("wav2vec2", tmp_path)
    settings = {"feature_extractor_type": "SeamlessM4TFeatureExtractor", "sampling_rate": RATE}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match=r"SeamlessM4TFeatureExtractor; expected one of ASTFeatureExtractor"):
        load_classifier(tmp_path)
