from __future__ import annotations

from pathlib import Path

import pytest

from common.records.gold import GoldSet
from components.align_t2a.probes import HeldOutLearner
from tests.kit.gold import tones_gold
from tests.kit.sounds import RATE, TONES, tone


@pytest.fixture
def gold(tmp_path: Path) -> GoldSet:
    tones_gold(tmp_path, val_per_label=1)
    return GoldSet(tmp_path)


def test_clips_of_the_right_labels_lower_the_loss_and_those_of_wrong_ones_raise_it(gold: GoldSet) -> None:
    learner = HeldOutLearner.of(gold, 0)
    assert learner is not None
    clips = [clip for clip in gold.train(0) for _ in range(3)]
    right, wrong = (
        learner.loss([(clip, tone(TONES[clip.label_id - by], 20 + i)) for i, clip in enumerate(clips)], RATE)
        for by in (0, 1)
    )
    assert right < wrong and learner.loss() < wrong
    assert learner.loss() == learner.loss()


def test_without_validation_clips_there_is_no_learner(tmp_path: Path) -> None:
    tones_gold(tmp_path)
    assert HeldOutLearner.of(GoldSet(tmp_path), 0) is None
