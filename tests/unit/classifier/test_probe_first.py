"""A fine-tuning whose head starts as a logistic regression on frozen features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.classifier.inference import embeddings, feature_logits
from common.classifier.model import Classifier, with_fresh_head
from common.config.base import OptimConfig
from common.config.learners import LEARNERS, PROBE_FIRST
from common.config.run import load_preset, preset_names
from common.config.train_classifier import TrainClassifierConfig
from common.learners.linear import fit_logistic
from common.storage.items import ItemStore
from components.train_classifier.ast_training import fit_head
from components.train_classifier.clips import ClipSet
from components.train_classifier.job import AstJob, Pretrained
from components.train_classifier.training import Examples
from tests.kit.examples import examples

LABELS = ["a", "b", "c"]


def logits(classifier: Classifier, data: Examples) -> np.ndarray:
    return feature_logits(classifier, [variants[0] for variants in data.features]).numpy()


@pytest.fixture
def fresh(classifier: Classifier) -> Classifier:
    return with_fresh_head(classifier, LABELS, seed=11)


def test_the_head_is_the_regression_on_gold_clips_that_validation_chooses(fresh: Classifier) -> None:
    gold, unseen = examples(4, 0), examples(4, 1)
    clips = Examples([*gold.features, *examples(2, 2).features], np.concatenate([gold.labels, [2, 2, 1, 1, 0, 0]]))
    features = embeddings(fresh, [variants[0] for variants in gold.features])
    held = embeddings(fresh, [variants[0] for variants in unseen.features])
    expected = {c: fit_logistic(features, np.eye(3)[gold.labels], np.ones(12), c, False) for c in (1e-6, 1.0)}
    fit_head(fresh, clips, 12, unseen, (1e-6, 1.0))
    np.testing.assert_allclose(logits(fresh, unseen), expected[1.0].logits(held), atol=1e-3)
    assert (logits(fresh, gold).argmax(axis=1) == gold.labels).all()
    fit_head(fresh, clips, 12, None, (0.1, 1e-6, 10.0))
    np.testing.assert_allclose(logits(fresh, unseen), expected[1e-6].logits(held), atol=1e-3)


def test_a_label_without_gold_clips_stays_within_reach(fresh: Classifier) -> None:
    fit_head(fresh, examples(4, 0, classes=2), 8, None, (0.1,))
    heard = logits(fresh, examples(4, 1))
    assert (heard[:, 2] < heard[:, :2].max(axis=1)).all()
    assert heard.min() > -50


def test_several_labels_have_a_regression_each(classifier: Classifier) -> None:
    made = with_fresh_head(classifier, LABELS, seed=11, multi_label=True)
    gold = examples(6, 0)
    targets = np.eye(3, dtype=np.float32)[gold.labels]
    targets[gold.labels == 1, 0] = 1
    fit_head(made, replace(gold, targets=targets), 18, replace(gold, targets=targets), (100.0,))
    assert ((logits(made, gold) > 0) == (targets > 0)).all()


def test_only_such_a_training_has_another_key(tmp_path: Path) -> None:
    clips = ClipSet((("a", "hash", 0),), tmp_path, ())
    settings = TrainClassifierConfig()
    optim = OptimConfig(steps=2, batch_size=4, learning_rate=1e-3)
    job = AstJob(
        pretrained=Pretrained(tmp_path, "base", None), labels=("a", "b"), multi_label=False, gold=clips,
        validation=None, synthetic=clips, classic="none", settings=settings,
        store=ItemStore("train_classifier", "v1", tmp_path), name="gold/0", seed=0, strength=None, optim=optim,
    )  # fmt: skip
    other = settings.model_copy(update={"learners": settings.learners.model_copy(update={"inverse_penalties": (0.5,)})})
    assert replace(job, settings=other).key() == job.key()
    first = replace(job, probe_first=True)
    assert "probe_first" not in job.key()
    assert first.key() != job.key()
    assert replace(first, settings=other).key() != first.key()


def test_presets_of_laptops_leave_it_out_and_the_others_try_every_learner() -> None:
    names = {preset: load_preset(preset).train_classifier.learners.names for preset in preset_names()}
    assert names.pop("tiny") == tuple(name for name in LEARNERS if name != PROBE_FIRST)
    assert PROBE_FIRST not in names.pop("smoke")
    assert set(names.values()) == {tuple(LEARNERS)}
