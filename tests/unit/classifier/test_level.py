"""Classifiers that hear every clip at one level."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from transformers import pipeline

from common.classifier.inference import embeddings, probabilities, set_last_layer
from common.classifier.model import Classifier, at_level, load_classifier, save_classifier, with_fresh_head
from common.config.base import OptimConfig
from common.config.classifier import LevelConfig
from common.learners.linear import fit_logistic
from components.train_classifier.budget import make_budget
from components.train_classifier.training import Examples, train
from tests.kit.predictions import predict_logits
from tests.kit.sounds import CLASS_LABELS, RATE, class_sound

Learned = Callable[[Classifier, list[NDArray[np.float32]], NDArray[np.int64]], Classifier]


def test_a_level_is_saved_and_the_stock_pipeline_agrees_about_a_clip_of_that_level(
    levelled: Classifier, tmp_path: Path
) -> None:
    save_classifier(with_fresh_head(levelled, levelled.labels, seed=1, window_s=0.3), tmp_path)
    loaded, stock = load_classifier(tmp_path), pipeline("audio-classification", model=str(tmp_path))
    assert loaded.front_end.peak == levelled.front_end.peak == pytest.approx(10**-0.5)
    noise = np.random.default_rng(3).standard_normal(5000).astype(np.float32)
    scaled = noise * np.float32(10**-0.5 / np.abs(noise).max())
    found = {entry["label"]: entry["score"] for entry in stock(scaled, top_k=None)}
    for row in probabilities(predict_logits(loaded, [scaled, 0.01 * noise], RATE)):
        assert [found[label] for label in loaded.labels] == pytest.approx(row.tolist(), abs=1e-4)


def test_a_classifier_can_be_given_a_level(classifier: Classifier, levelled: Classifier) -> None:
    assert classifier.front_end.peak is None and not hasattr(classifier.extractor, "peak_dbfs")
    assert at_level(classifier, LevelConfig()).front_end == levelled.front_end != classifier.front_end


def fine_tuned(base: Classifier, clips: list[NDArray[np.float32]], ids: NDArray[np.int64]) -> Classifier:
    made = with_fresh_head(base, CLASS_LABELS, seed=1)
    budget = make_budget(
        ids, np.zeros(0, np.int64), steps=150, batch_size=9, synthetic_fraction=0.5, 
        seed=0,
    )  # fmt: skip
    optim = OptimConfig(steps=150, batch_size=9, learning_rate=5e-3)
    examples = Examples([[clip] for clip in made.front_end(clips)], ids)
    train(made, examples, None, budget, optim, select_by="accuracy", specaugment=None, seed=2)
    return made


def probed(base: Classifier, clips: list[NDArray[np.float32]], ids: NDArray[np.int64]) -> Classifier:
    made = with_fresh_head(base, CLASS_LABELS, seed=1)
    features = embeddings(made, made.front_end(clips))
    set_last_layer(made, *fit_logistic(features, np.eye(3)[ids], np.ones(len(ids)), 1.0, False).folded())
    return made


@pytest.mark.parametrize("learned", [fine_tuned, probed])
def test_answers_do_not_depend_on_the_level_or_on_the_noise_floor(levelled: Classifier, learned: Learned) -> None:
    rng, ids = np.random.default_rng(0), np.arange(84) % 3
    clips = [class_sound(k, rng) * np.repeat(np.float32([1, 1e-3]), 3500) for k in ids]
    made = learned(levelled, clips[:24], ids[:24])
    clips, truth = clips[24:], ids[24:]
    answers = predict_logits(made, clips, RATE).argmax(axis=1)
    assert (answers == truth).mean() > 0.8
    changed = {
        "30 dB down, 16 bits": [np.round(clip * 10**-1.5 * 32767) / 32767 for clip in clips],
        "digital silence": [clip * np.repeat(np.float32([1, 0]), 3500) for clip in clips],
    }
    for name, waveforms in changed.items():
        found = predict_logits(made, [w.astype(np.float32) for w in waveforms], RATE).argmax(axis=1)
        assert (found == answers).mean() >= 0.95, name
