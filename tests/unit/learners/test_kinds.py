"""How learners are found: by one record of what they are, and one of how they are made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from common.config.learners import AST, BLEND, LEARNERS, PROBE_FIRST, Learner, LearnersConfig
from common.config.train_classifier import TrainClassifierConfig
from common.learners.linear import fit_discriminant
from common.learners.model import LinearHead, load_learner
from common.learners.statistics import SCALES
from common.records.audio_folder import load_clip
from common.records.gold import GoldSet
from common.runtime.work import obtain
from common.storage.items import ItemStore
from components.train_classifier.candidates import Strength
from components.train_classifier.clips import ClipSet, clip_set
from components.train_classifier.jobs import MODEL
from components.train_classifier.learner_fitting import fitting
from components.train_classifier.learner_job import LearnerJob, Pretrained
from components.train_classifier.learner_kinds import KINDS, Rows, _without_weights
from tests.kit.gold import classes_gold


def test_every_learner_has_an_implementation() -> None:
    assert KINDS.keys() == LEARNERS.keys() - {AST, PROBE_FIRST, BLEND}


def test_a_learner_is_two_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(
        job: LearnerJob, gold: Rows, further: Rows, share: float, option: float, strength: Strength | None
    ) -> nn.Module:
        fitted = fit_discriminant(np.stack(gold.features), gold.targets, np.ones(len(gold.targets)), 9.0, False, SCALES)
        return LinearHead.of(fitted)

    monkeypatch.setitem(LEARNERS, "toy", Learner(title="a stiff discriminant"))
    monkeypatch.setitem(KINDS, "toy", _without_weights("statistics", fit))
    gold = GoldSet(classes_gold(tmp_path / "gold"))
    job = LearnerJob(
        learner=LearnersConfig(names=("toy",)).names[0],
        method="gold",
        replicate=0,
        pretrained=Pretrained(tmp_path, "", None),
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
    model = load_learner(obtain(fitting(job)) / MODEL)
    clips = gold.val(0)
    heard = model.of_waveforms([load_clip(gold.path, clip, model.sample_rate_hz) for clip in clips])
    assert (heard.argmax(axis=1) == [clip.label_id for clip in clips]).all()
