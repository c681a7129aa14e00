from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from common.config.clap import SecondJudgeConfig
from common.errors import DataError
from common.learners.statistics import SCALES
from components.filter_audio.second_judge import SecondJudge, fit_second_judge
from components.filter_audio.thresholds import planted_trial
from tests.kit.clips import gold_clip

LABELS = 3
CENTRES = np.random.default_rng(0).standard_normal((LABELS, len(SCALES)))
MAINS = [label for label in range(LABELS) for _ in range(6)]
FRESH = [label for label in range(LABELS) for _ in range(20)]


def clip(label: int, seed: int, spread: float = 2.0) -> np.ndarray:
    """Features of a clip of a class."""
    rng = np.random.default_rng([label, seed])
    return (CENTRES[label] + spread * rng.standard_normal(len(SCALES))).astype(np.float32)


def clips(mains: Sequence[int], first: int = 0, spread: float = 2.0) -> list[np.ndarray]:
    """Features of a clip for each label."""
    return [clip(label, first + number, spread) for number, label in enumerate(mains)]


def fit(
    features: Sequence[np.ndarray],
    labels: Sequence[Sequence[int]],
    groups: Sequence[str] | None = None,
    multi_label: bool = False,
    **config: Any,
) -> SecondJudge | None:
    """A judge fitted to clips with the ids 0, 1, 2 …, the first of whose labels is the main one."""
    gold = [
        gold_clip(str(number), str(main), main, group=groups[number] if groups else None)
        for number, (main, *_) in enumerate(labels)
    ]
    settings = SecondJudgeConfig.model_validate({"kind": "stats", "least": 1, **config})
    return fit_second_judge([[each] for each in features], gold, claims(*labels), multi_label, settings, seed=0)


def claims(*labels: Sequence[int]) -> np.ndarray:
    """Whether a clip has a label."""
    return np.array([[label in own for label in range(LABELS)] for own in labels])


def judge(features: Sequence[np.ndarray], mains: Sequence[int], **arguments: Any) -> SecondJudge:
    """The same where there is one."""
    fitted = fit(features, [(label,) for label in mains], **arguments)
    assert fitted is not None
    return fitted


def test_right_labels_pass_and_planted_ones_are_refused() -> None:
    fitted = judge(clips(MAINS), MAINS)
    heard, own = fitted.hear(clips(FRESH, 50), ["0"] * len(FRESH)), np.eye(LABELS, dtype=bool)[FRESH]
    figures = planted_trial(fitted.passes, heard, own, FRESH)
    assert figures["recall"] > 0.9 and figures["wrong_kept"] < 0.1
    for opinion in fitted.opinions(heard, own):
        assert opinion.probability is not None and opinion.passes == (opinion.probability >= 1 / LABELS)


def test_no_clip_is_judged_by_a_model_that_met_its_source_or_the_source_s_group() -> None:
    groups = [str(number // 2) for number in range(len(MAINS))]
    # A clip whose label is wrong is believed by a model that was fitted to it, and not by the one that was not.
    features = [*clips(MAINS)[:-1], clip(0, 99, spread=0.1)]
    fitted = judge(features, MAINS, groups=groups, ridge=0.01)
    folds = [fitted.folds[str(number)] for number in range(len(MAINS))]
    assert folds[::2] == folds[1::2] and len(set(folds)) > 1
    stranger = next(str(number) for number, fold in enumerate(folds) if fold != folds[-1])
    own, other = fitted.hear([features[-1]] * 2, [str(len(MAINS) - 1), stranger])[:, 2]
    assert own < other / 2


def test_a_higher_bound_accepts_fewer() -> None:
    noisy, fresh = clips(MAINS, spread=12.0), clips(FRESH, 50, spread=12.0)
    counts = []
    for least in (0.5, 1.0, 2.0, 3.1):
        fitted = judge(noisy, MAINS, least=least)
        heard = fitted.hear(fresh, ["0"] * len(fresh))
        counts.append(int(fitted.passes(heard, np.eye(LABELS, dtype=bool)[FRESH]).sum()))
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[1] > counts[3] == 0


def test_a_label_that_no_other_clip_has_is_not_judged() -> None:
    mains = [0] * 5 + [1] * 5 + [2]
    fitted = judge(clips(mains), mains)
    unknown, known = fitted.opinions(fitted.hear([clip(0, 99)] * 2, ["10", "10"]), claims([2], [1]))
    assert unknown.passes and unknown.probability is None
    assert not known.passes and known.probability is not None


def test_of_several_labels_each_must_reach_its_share_of_the_gold_clips() -> None:
    labels = [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1)] * 4
    features = [np.sum(clips(own, number), axis=0) for number, own in enumerate(labels)]
    fitted = fit(features, labels, multi_label=True)
    assert fitted is not None
    np.testing.assert_allclose(fitted.bounds, [3 / 6, 4 / 6, 2 / 6])
    heard = np.array([[0.99, 0.99, 0.0]] * 2)
    np.testing.assert_array_equal(fitted.passes(heard, claims([0, 1], [0, 2])), [True, False])
    assert [opinion.probability for opinion in fitted.opinions(heard, claims([0, 1], [0, 2]))] == [0.99, 0.0]


def test_there_is_no_judge_of_one_group_or_of_single_clips() -> None:
    assert fit(clips([0, 1, 2]), [(0,), (1,), (2,)]) is None
    assert fit(clips([0, 0, 0]), [(0,)] * 3, groups=["one"] * 3) is None


def test_a_clip_from_elsewhere_is_refused() -> None:
    with pytest.raises(DataError, match="'elsewhere', are no gold training clips"):
        judge(clips(MAINS), MAINS).hear(clips([0]), ["elsewhere"])
