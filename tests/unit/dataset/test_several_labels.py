"""Clips of several labels: exact draws that hold every class, and what is said where they cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.config.dataset import DatasetSpec, PrepareDatasetConfig
from common.errors import DataError
from components.prepare_dataset.clips import Clip
from components.prepare_dataset.drawing import count_labels, draw, labels_of
from components.prepare_dataset.splitting import Splits, split_clips

Make = Callable[..., Clip]
LABELS = [f"l{i:02}" for i in range(20)]


def clips_of(clip: Make, count: int, split: str | None = None, first: int = 0) -> list[Clip]:
    """Clips with one to three of twenty labels, the last ones rare."""
    rng = np.random.default_rng(first)
    share = 1 / np.arange(1, 21)
    found = []
    for number in range(first, first + count):
        chosen = rng.choice(LABELS, rng.integers(1, 4), replace=False, p=share / share.sum()).tolist()
        chosen = [LABELS[number % 20], *(label for label in chosen if label != LABELS[number % 20])]
        found.append(replace(clip(number, chosen[0], split), further_labels=tuple(chosen[1:])))
    return found


def split(clips: Sequence[Clip], n: int | None, labels: Sequence[str] = LABELS) -> Splits:
    spec = DatasetSpec(name="own", audio=Path("/a"), multi_label=True)
    return split_clips(clips, labels, spec, PrepareDatasetConfig(), n, (0, 1))


@pytest.mark.parametrize("n", [20, 50, 100])
def test_exactly_n_clips_hold_every_class(clip: Make, n: int) -> None:
    clips = clips_of(clip, 400)
    for seed in range(3):
        drawn = draw(clips, n, seed, "train")
        assert len({c.clip_id for c in drawn}) == len(drawn) == n and labels_of(drawn) == set(LABELS)
    assert draw(clips, n, 0, "train") == draw(clips[::-1], n, 0, "train") != draw(clips, n, 1, "train")


def test_a_draw_has_about_the_share_of_every_class(clip: Make) -> None:
    clips = clips_of(clip, 2000)
    everything, drawn = count_labels(clips), count_labels(draw(clips, 400, 0, "train"))
    assert all(drawn[label] == pytest.approx(0.2 * everything[label], rel=0.35) for label in LABELS)


def test_training_validation_and_a_drawn_test_split_hold_every_class_and_share_no_clip(clip: Make) -> None:
    splits = split(clips_of(clip, 600), 60)
    for train, validation in splits.replicates.values():
        sides = [splits.test, train, validation]
        assert [len(side) for side in sides] == [120, 60, 60] and not splits.warnings
        assert all(labels_of(side) == set(LABELS) for side in sides)
        assert max(Counter(c.clip_id for side in sides for c in side).values()) == 1


def test_classes_that_few_clips_cannot_hold_are_named(clip: Make) -> None:
    given = [*clips_of(clip, 200, "train"), *clips_of(clip, 100, "test", 500)]
    said = [warning.message for warning in split(given, 5).warnings if warning.code == "training_lacks_classes"]
    assert "5 training clips of replicate 0 have none of" in said[0] and "raise N" in said[0] and len(said) == 2


def test_a_class_of_the_test_split_that_training_lacks_is_an_error(clip: Make) -> None:
    given = [*clips_of(clip, 200, "train"), replace(clip(999, "l00", "test"), further_labels=("only here",))]
    with pytest.raises(DataError, match=r"class 'only here' has 0 usable clip.*outside the test split"):
        split(given, 50, [*LABELS, "only here"])


def test_few_clips_of_many_labels_leave_clips_for_training(clip: Make) -> None:
    names = [f"l{i:02d}" for i in range(40)]
    clips = [
        replace(clip(i, names[i % 40]), further_labels=tuple(names[(i + step) % 40] for step in range(1, 30)))
        for i in range(30)
    ]
    splits = split(clips, None, names)
    assert len(splits.test) == 15
    assert [(len(train), len(validation)) for train, validation in splits.replicates.values()] == [(8, 7)] * 2
