from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from common.classifier.inference import predict_logits
from common.classifier.model import build_classifier, load_classifier, save_classifier
from common.classifier.probe import embeddings, set_last_layer
from common.config.learners import checked_learners
from common.errors import ConfigError, DataError
from common.learners.linear import Linear, fit_linear
from common.learners.model import WEIGHTS, StatisticsClassifier, load_learner
from common.learners.statistics import statistics
from tests.kit.models import AST_ARCHITECTURE
from tests.kit.sounds import RATE, class_sound

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_folded_weights_are_scikit_learns_pipeline(classes: int) -> None:
    ids = np.arange(30) % classes
    features = RNG.normal(size=(30, 5)) * [1, 10, 100, 0.1, 1] + ids[:, None]
    fitted = fit_linear(features, np.eye(classes)[ids], np.ones(30), 0.1, False)
    scaler = StandardScaler().fit(features)
    peer = LogisticRegression(C=0.1, max_iter=300).fit(scaler.transform(features), ids)
    shares = np.exp(fitted.logits(features))
    shares /= shares.sum(axis=1, keepdims=True)
    assert shares == pytest.approx(peer.predict_proba(scaler.transform(features)), abs=1e-5)


@pytest.mark.parametrize("several", [False, True])
def test_clips_that_say_nothing_give_finite_logits(several: bool) -> None:
    features = np.ones((4, 3))
    for targets in (np.eye(3)[[0, 0, 0, 0]], np.eye(3)[[0, 0, 1, 1]]):
        logits = fit_linear(features, targets, np.ones(4), 0.1, several).logits(features)
        assert np.isfinite(logits).all()
        assert (logits[:, 2] < logits[:, 0]).all()


def test_a_clip_of_weight_zero_is_as_if_it_were_not_there() -> None:
    features, targets = RNG.normal(size=(12, 3)), np.eye(3)[np.arange(12) % 3]
    with_one = fit_linear(
        np.vstack([features, [[1e6] * 3]]), np.vstack([targets, targets[:1]]), np.array([*np.ones(12), 0.0]), 0.1, False
    )
    assert with_one.weight == pytest.approx(fit_linear(features, targets, np.ones(12), 0.1, False).weight)


def test_statistics_do_not_hear_the_level_nor_digital_silence_below_the_floor() -> None:
    clip = class_sound(0, RNG).astype(np.float32)
    quiet = statistics([clip, 0.03 * clip])
    assert quiet[1] == pytest.approx(quiet[0], abs=1e-2)
    assert np.isfinite(statistics([np.zeros(100, np.float32), np.zeros(8000, np.float32)])).all()


def test_a_saved_learner_answers_as_before_and_damage_is_named(tmp_path: Path) -> None:
    clips = [class_sound(k, RNG).astype(np.float32) for k in (0, 1, 2)]
    linear = fit_linear(statistics(clips), np.eye(3), np.ones(3), 0.1, False)
    learner = StatisticsClassifier(("a", "b", "c"), False, linear)
    learner.save(tmp_path)
    assert load_learner(tmp_path).probabilities(clips) == pytest.approx(learner.probabilities(clips), abs=1e-5)
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:40])
    with pytest.raises(DataError, match="make it again or copy it whole"):
        load_learner(tmp_path)


def test_the_folded_probe_is_a_classifier_with_the_logits_of_its_features(tmp_path: Path) -> None:
    made = build_classifier(AST_ARCHITECTURE, ["a", "b"], -6.0, 3.0, seed=1)
    # Of three windows, so that means over windows count.
    clips = [np.tile(class_sound(k, RNG), 3).astype(np.float32) for k in (0, 1)]
    features = embeddings(made, made.front_end(clips))
    linear = Linear(RNG.normal(size=(2, features.shape[1])), RNG.normal(size=2))
    set_last_layer(made, linear.weight, linear.bias)
    save_classifier(made, tmp_path)
    assert predict_logits(load_classifier(tmp_path), clips, RATE) == pytest.approx(linear.logits(features), abs=1e-4)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(("names", "message"), [(["prob"], "probe"), (["stats", "stats"], "named twice")])
def test_an_unknown_or_repeated_learner_is_an_error(names: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked_learners(names)
