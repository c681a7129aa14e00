"""How learners are found: by one record of what they are, and one of how they are made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from common.classifier.model import build_classifier, save_classifier
from common.config.classifier import SpecAugmentConfig
from common.config.learners import AST, BLEND, LEARNERS, PROBE_FIRST, Learner, LearnersConfig
from common.config.train_classifier import TrainClassifierConfig
from common.contracts.training import Strength
from common.learners.cnn import BANDS, Change, fit_convnet
from common.learners.linear import fit_discriminant
from common.learners.model import LinearHead, load_learner
from common.learners.statistics import SCALES
from common.records.audio_folder import load_clip
from common.records.gold import GoldSet
from common.runtime.work import obtain
from common.storage.items import ItemStore
from components.train_classifier import learner_kinds
from components.train_classifier.clips import ClipSet, clip_set
from components.train_classifier.job import MODEL, LearnerJob, Pretrained
from components.train_classifier.learner_fitting import fitting
from components.train_classifier.learner_kinds import KINDS, Rows, _without_weights
from tests.kit.gold import classes_gold
from tests.kit.models import AST_ARCHITECTURE


def job_of(learner: str, gold: GoldSet) -> LearnerJob:
    return LearnerJob(
        learner=learner,
        method="gold",
        replicate=0,
        pretrained=Pretrained(gold.path, "", None),
        labels=tuple(gold.labels),
        multi_label=False,
        gold=clip_set(gold.path, gold.train(0), gold.label_ids),
        validation=clip_set(gold.path, gold.val(0), gold.label_ids),
        synthetic=ClipSet((), gold.path, ()),
        classic="none",
        strengths=(None,),
        settings=TrainClassifierConfig(),
        store=ItemStore("train_classifier", "v"),
    )


def test_every_learner_has_an_implementation() -> None:
    assert KINDS.keys() == LEARNERS.keys() - {AST, PROBE_FIRST, BLEND}


def test_the_classifier_hears_frozen_features_on_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_classifier(build_classifier(AST_ARCHITECTURE, ["x", "y"], -6.0, 3.0, seed=1), tmp_path)
    # A device without memory stands for it.
    monkeypatch.setattr(learner_kinds, "device", lambda: "meta")
    body = learner_kinds._Body(Pretrained(tmp_path, "", None))
    assert {weights.device.type for weights in body._seen.model.parameters()} == {"meta"}


def test_masks_of_the_cnn_are_as_loud_as_the_mean_and_it_rolls_by_its_own_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: list[Change] = []
    monkeypatch.setattr(learner_kinds, "fit_convnet", lambda *_, change, **__: changes.append(change))
    rolling = SpecAugmentConfig(time_roll_s=0.32)
    job = job_of("cnn", GoldSet(classes_gold(tmp_path / "gold")))
    job = replace(job, classic="specaugment", settings=TrainClassifierConfig(specaugment=rolling))
    KINDS["cnn"].fit(job, Rows.none(3), Rows.none(3), 0.0, 0.0, 0.5)
    (change,) = changes
    levels = -40.0 - torch.arange(50.0)[None, :, None].expand(200, 50, 64) / 100
    heard = change(levels, torch.Generator().manual_seed(0))
    masked = heard == levels.mean()
    assert 0.2 < masked.float().mean() < 0.8
    moved = (heard - levels)[~masked] * 100
    # 0.32 s are 20 frames of 16 ms, forwards or backwards around 50.
    assert {round(abs(step)) for step in moved.tolist()} == {*range(21), *range(30, 50)}


def test_a_learner_is_two_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(
        job: LearnerJob, gold: Rows, further: Rows, share: float, option: float, strength: Strength | None
    ) -> nn.Module:
        fitted = fit_discriminant(np.stack(gold.features), gold.targets, np.ones(len(gold.targets)), 9.0, False, SCALES)
        return LinearHead.of(fitted)

    monkeypatch.setitem(LEARNERS, "toy", Learner(title="a stiff discriminant"))
    monkeypatch.setitem(KINDS, "toy", _without_weights("statistics", fit))
    gold = GoldSet(classes_gold(tmp_path / "gold"))
    job = job_of(LearnersConfig(names=("toy",)).names[0], gold)
    model = load_learner(obtain(fitting(job)) / MODEL)
    clips = gold.val(0)
    heard = model.of_waveforms([load_clip(gold.path, clip, model.sample_rate_hz) for clip in clips])
    assert (heard.argmax(axis=1) == [clip.label_id for clip in clips]).all()


@pytest.mark.parametrize("steps", [1, 4, 5])
def test_the_cnn_takes_any_number_of_steps(steps: int) -> None:
    clips = [np.full((20, BANDS), float(-level), np.float32) for level in range(4)]
    targets = np.eye(2)[[0, 1, 0, 1]]
    net = fit_convnet(clips, targets, [], np.zeros((0, 2)), 0.0, multi_label=False, steps=steps, seed=0)
    assert all(value.isfinite().all() for value in net.parameters())
