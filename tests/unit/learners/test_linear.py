from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from common.classifier.inference import embeddings, set_last_layer
from common.classifier.model import build_classifier, load_classifier, save_classifier
from common.config.learners import LearnersConfig
from common.errors import ConfigError
from common.learners.linear import fit_discriminant, fit_logistic
from common.learners.model import LinearHead, head_logits
from tests.kit.models import AST_ARCHITECTURE
from tests.kit.predictions import predict_logits
from tests.kit.sounds import RATE, class_sound

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_folded_weights_are_scikit_learns_pipeline(classes: int) -> None:
    ids = np.arange(30) % classes
    features = RNG.normal(size=(30, 5)) * [1, 10, 100, 0.1, 1] + ids[:, None]
    fitted = fit_logistic(features, np.eye(classes)[ids], np.ones(30), 0.1, False)
    scaler = StandardScaler().fit(features)
    peer = LogisticRegression(C=0.1, max_iter=300).fit(scaler.transform(features), ids)
    weight, bias = fitted.folded()
    for logits in (fitted.logits(features), features @ weight.T + bias):
        shares = np.exp(logits)
        shares /= shares.sum(axis=1, keepdims=True)
        assert shares == pytest.approx(peer.predict_proba(scaler.transform(features)), abs=1e-5)


def test_the_discriminant_is_scikit_learns_where_there_are_more_clips_than_features() -> None:
    ids = np.arange(60) % 3
    features = RNG.normal(size=(60, 4)) + np.eye(3, 4)[ids] * 2
    fitted = fit_discriminant(features, np.eye(3)[ids], np.ones(60), 1e-9, False, np.ones(4), limit=1e3)
    scores = fitted.logits(features)
    peer = LinearDiscriminantAnalysis(solver="lsqr", priors=[1 / 3] * 3).fit(features, ids)
    expected = peer.decision_function(features)
    # Equal apart from a constant for each clip.
    assert scores - scores[:, :1] == pytest.approx(expected - expected[:, :1], abs=1e-4)


@pytest.mark.parametrize("several", [False, True])
def test_clips_that_say_nothing_give_finite_logits(several: bool) -> None:
    features = np.ones((4, 3))
    for targets in (np.eye(3)[[0, 0, 0, 0]], np.eye(3)[[0, 0, 1, 1]]):
        for fitted in (
            fit_logistic(features, targets, np.ones(4), 0.1, several),
            fit_discriminant(features, targets, np.ones(4), 0.1, several, np.ones(3)),
        ):
            logits = fitted.logits(features)
            assert np.isfinite(logits).all()
            assert (logits[:, 2] < logits[:, 0]).all()


def test_independent_labels_have_a_discriminant_each() -> None:
    targets = RNG.integers(0, 2, size=(40, 2)).astype(float)
    features = targets + 0.1 * RNG.normal(size=(40, 2))
    fitted = fit_discriminant(features, targets, np.ones(40), 0.01, True, np.ones(2))
    assert ((fitted.logits(features) > 0) == (targets > 0)).all()


def test_a_heavier_clip_counts_as_several() -> None:
    features, ids = RNG.normal(size=(12, 3)), np.arange(12) % 3
    twice = np.concatenate([np.arange(12), [4]])
    for fit in (
        lambda x, y, w: fit_logistic(x, y, w, 0.1, False),
        lambda x, y, w: fit_discriminant(x, y, w, 0.1, False, np.ones(3)),
    ):
        heavy = fit(features, np.eye(3)[ids], np.where(np.arange(12) == 4, 2.0, 1.0))
        many = fit(features[twice], np.eye(3)[ids[twice]], np.ones(13))
        assert heavy.logits(features) == pytest.approx(many.logits(features), abs=1e-3)


def test_a_head_gives_the_logits_of_the_fit_in_single_precision() -> None:
    features = RNG.normal(size=(9, 4)).astype(np.float32)
    fitted = fit_discriminant(features, np.eye(3)[np.arange(9) % 3], np.ones(9), 0.1, False, np.ones(4), limit=1.0)
    assert head_logits(LinearHead.of(fitted), list(features)) == pytest.approx(fitted.logits(features), abs=1e-4)


def test_the_folded_probe_is_a_classifier_with_the_logits_of_its_features(tmp_path: Path) -> None:
    made = build_classifier(AST_ARCHITECTURE, ["a", "b"], -6.0, 3.0, seed=1)
    # Of three windows, so that means over windows count.
    clips = [np.tile(class_sound(k, RNG), 3).astype(np.float32) for k in (0, 1)]
    features = embeddings(made, made.front_end(clips))
    weight, bias = RNG.normal(size=(2, features.shape[1])), RNG.normal(size=2)
    set_last_layer(made, weight, bias)
    save_classifier(made, tmp_path)
    heard = predict_logits(load_classifier(tmp_path), clips, RATE)
    assert heard == pytest.approx(features @ weight.T + bias, abs=1e-4)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(("names", "message"), [(("prob",), "probe"), (("stats", "stats"), "named twice")])
def test_an_unknown_or_repeated_learner_is_an_error(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LearnersConfig(names=names)
