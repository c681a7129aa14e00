"""Exact, stratified, grouped, seeded splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from common.config.dataset import DatasetSpec, PrepareDatasetConfig
from common.errors import ConfigError, DataError
from components.prepare_dataset import splitting
from components.prepare_dataset.clips import Clip
from components.prepare_dataset.drawing import allocate, draw
from components.prepare_dataset.splitting import Splits, split_clips

Make = Callable[..., Clip]


def split(
    clips: Sequence[Clip],
    n: int | None = None,
    replicates: Sequence[int] = (0, 1, 2),
    test: float | str | None = None,
    **settings: object,
) -> Splits:
    spec = DatasetSpec.model_validate({"name": "own", "audio": Path("/a"), "test": test})
    labels = sorted({clip.label for clip in clips})
    return split_clips(clips, labels, spec, PrepareDatasetConfig.model_validate(settings), n, replicates)


def codes(splits: Splits) -> set[str]:
    return {warning.code for warning in splits.warnings}


def test_shares_follow_the_largest_remainder() -> None:
    assert allocate({"a": 50, "b": 30, "c": 20}, 10) == {"a": 5, "b": 3, "c": 2}
    assert allocate({"a": 47, "b": 16, "c": 15, "d": 22}, 10) == {"a": 5, "b": 2, "c": 1, "d": 2}
    assert allocate({"a": 5, "b": 5, "c": 5}, 4) == {"a": 2, "b": 1, "c": 1}
    assert allocate({"a": 980, "b": 10, "c": 10}, 3) == {"a": 1, "b": 1, "c": 1}
    assert allocate({"a": 3, "b": 1}, 4) == {"a": 3, "b": 1}


def test_a_larger_draw_holds_the_smaller_one_and_order_does_not_matter(clip: Make) -> None:
    clips = [clip(i, label) for label in "ab" for i in range(30)]
    small, large = draw(clips, 10, 3, "train"), draw(clips[::-1], 20, 3, "train")
    assert {c.clip_id for c in small} < {c.clip_id for c in large}
    assert small != draw(clips, 10, 4, "train")


@pytest.mark.parametrize("n", [3, 7, 32, 100])
def test_exactly_n_training_clips_and_validation_on_top(clip: Make, n: int) -> None:
    clips = [clip(i, label) for label, count in (("a", 150), ("b", 90), ("c", 60)) for i in range(count)]
    splits = split(clips, n)
    for train, validation in splits.replicates.values():
        assert len(train) == n and len(validation) == n
        assert Counter(c.label for c in train) == allocate({"a": 120, "b": 72, "c": 48}, n)
    assert len(splits.test) == 60 and not splits.shared and splits.validation == "remaining"
    first, second = (frozenset(c.clip_id for c in splits.replicates[replicate][0]) for replicate in (0, 1))
    assert first != second


def test_splits_are_disjoint_and_depend_on_nothing_but_clips_and_seed(clip: Make) -> None:
    clips = [clip(i, label) for label in "abc" for i in range(40)]
    splits, again = split(clips, 30), split(clips[::-1], 30, replicates=(2, 0))
    assert splits.test == again.test and splits.replicates[2] == again.replicates[2]
    for train, validation in splits.replicates.values():
        sides = [{c.clip_id for c in side} for side in (splits.test, train, validation)]
        assert len(set().union(*sides)) == sum(map(len, sides))


def test_where_nothing_remains_a_fifth_of_the_training_clips_validates_and_all_seeds_share_it(clip: Make) -> None:
    splits = split([clip(i, label, "test" if i < 10 else "train") for label in "ab" for i in range(60)])
    train, validation = splits.replicates[0]
    assert (len(train), len(validation), len(splits.test)) == (80, 20, 20)
    assert splits.shared and splits.replicates[1] == splits.replicates[0]
    assert splits.validation == "training" and "validation_from_training" in codes(splits)


def test_official_splits_are_kept_and_validation_is_at_most_n(clip: Make) -> None:
    clips = [clip(i, label, ("train", "val", "test")[i % 3]) for label in "ab" for i in range(60)]
    splits = split(clips, 10)
    train, validation = splits.replicates[0]
    assert {c.split for c in train} == {"train"} and {c.split for c in validation} == {"val"}
    assert (len(train), len(validation), len(splits.test)) == (10, 10, 40)
    assert len(split(clips).replicates[0][0]) == 40 and split(clips).validation == "official"


def test_whole_groups_are_held_out_where_there_are_enough(clip: Make) -> None:
    clips = [clip(i, label, group=f"speaker {i % 12}") for label in "abc" for i in range(120)]
    splits = split(clips, 30)
    for train, validation in splits.replicates.values():
        sides = [{c.group for c in side} for side in (splits.test, train, validation)]
        assert len(set().union(*sides)) == sum(map(len, sides))
        assert len(train) == 30 and Counter(c.label for c in train) == {"a": 10, "b": 10, "c": 10}
    assert 0.15 < len(splits.test) / len(clips) < 0.25
    assert (splits.test_by, splits.validation_by) == ("group", "group") and not codes(splits)
    everything = split(clips)
    train, validation = everything.replicates[0]
    assert not {c.group for c in train} & {c.group for c in validation}
    assert len(train) + len(validation) == len(everything.pool)


@pytest.mark.parametrize("groups", [1, 2])
def test_too_few_groups_for_a_test_split_are_split_by_clip_with_a_warning(clip: Make, groups: int) -> None:
    splits = split([clip(i, label, group=f"g{i % groups}") for label in "ab" for i in range(50)], 20)
    assert splits.test_by == "clip" and {"test_by_clip", "validation_by_clip"} <= codes(splits)


def test_groups_that_hold_one_class_each_are_split_by_clip_with_a_warning(clip: Make) -> None:
    splits = split([clip(i, label, group=f"only {label}") for label in "abcd" for i in range(30)], 20)
    assert splits.test_by == "clip" and "test_by_clip" in codes(splits)


def test_three_training_speakers_are_too_few_for_a_validation_of_their_own(clip: Make) -> None:
    clips = [clip(i, label, "test" if i % 4 == 0 else "train", f"s{i % 4}") for label in "ab" for i in range(80)]
    splits = split(clips, 40)
    assert "validation_by_clip" in codes(splits) and "groups_shared" not in codes(splits)
    assert len(splits.replicates[0][1]) == 40


def test_more_is_held_out_where_whole_groups_of_every_class_need_it(clip: Make) -> None:
    """Three pairs of clips for three classes, though a fifth of the clips is five."""
    splits = split([clip(i, label, group=f"{label}{i // 2}") for label in "abc" for i in range(8)])
    assert (len(splits.test), splits.test_by, splits.validation_by) == (6, "group", "group")
    train, validation = splits.replicates[0]
    sides = [{c.group for c in side} for side in (splits.test, train, validation)]
    assert not sides[0] & (sides[1] | sides[2]) and not sides[1] & sides[2]
    assert all({c.label for c in side} == set("abc") for side in (splits.test, train, validation))


def test_clips_of_a_group_in_a_given_test_split_leave_training_and_validation(clip: Make) -> None:
    parts = ["test" if i < 6 else "val" if i < 20 else "train" for i in range(60)]
    clips = [clip(i, label, part, f"s{i % 20}") for label in "ab" for i, part in enumerate(parts)]
    splits = split(clips, None)
    groups = [{c.group for c in side} for side in (splits.test, splits.pool, splits.official_validation)]
    assert not groups[0] & groups[1] and not groups[0] & groups[2]
    assert not any(warning.of_test for warning in splits.warnings)
    assert Counter(drop.reason for drop in splits.dropped) == {"group_in_test": 24}
    assert {drop.split for drop in splits.dropped} == {"train"} and "s0 has clips" in splits.dropped[0].detail
    assert len(splits.test) == 12 and len(splits.pool) == 56 and len(splits.official_validation) == 28


def test_clips_of_a_group_in_a_test_split_drawn_by_group_leave_a_given_validation(clip: Make) -> None:
    clips = [clip(i, label, "val" if i % 3 == 0 else "train", f"s{i % 10}") for label in "ab" for i in range(60)]
    splits = split(clips, 20)
    sides = [{c.group for c in side} for side in (splits.test, splits.official_validation)]
    assert splits.test_by == "group" and not sides[0] & sides[1] and sides[1]
    assert {(drop.reason, drop.split) for drop in splits.dropped} == {("group_in_test", "val")}


def test_validation_counts_as_drawn_by_clip_where_one_replicate_is(clip: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [clip(i, label, "test" if i < 9 else "train", f"s{i}") for label in "ab" for i in range(60)]
    real = splitting.hold_out_groups

    def fails_at_first(*args: Any) -> set[str] | None:
        return None if args[3] == 0 else real(*args)

    assert split(clips, 20).validation_by == "group"
    monkeypatch.setattr(splitting, "hold_out_groups", fails_at_first)
    splits = split(clips, 20)
    assert splits.validation_by == "clip" and "validation_by_clip" in codes(splits)


def test_clips_without_a_group_and_splits_that_are_drawn_lose_nothing(clip: Make) -> None:
    given = [clip(i, label, "test" if i < 9 else "train", None) for label in "ab" for i in range(60)]
    drawn = [clip(i, label, group=f"g{i % 2}") for label in "ab" for i in range(60)]
    assert not split(given, 20).dropped and not split(drawn, 20).dropped


def test_official_splits_that_share_all_groups_are_told(clip: Make) -> None:
    splits = split([clip(i, label, "test" if i < 9 else "train", f"s{i % 2}") for label in "ab" for i in range(60)], 20)
    assert any("s0, s1" in warning.message for warning in splits.warnings if warning.code == "groups_shared")


def test_copies_of_training_audio_leave_a_given_test_split_and_never_straddle_validation(clip: Make) -> None:
    clips = [clip(i, label, "test" if i < 10 else "train") for label in "ab" for i in range(60)]
    clips += [clip(99, "a", "train", content="a/0.wav"), clip(98, "b", "train", content="b/20.wav")]
    splits = split(clips, 60)
    assert [(drop.source, drop.reason) for drop in splits.test_dropped] == [("a/0.wav", "duplicate_of_training")]
    assert len(splits.test) == 19 and not splits.dropped and len(splits.pool) == 102
    for train, validation in splits.replicates.values():
        assert not {c.content for c in train} & {c.content for c in validation}


def test_copies_of_drawn_test_audio_leave_training(clip: Make) -> None:
    splits = split(
        [clip(f"{take}{i}", label, content=f"{label}{i}") for label in "ab" for i in range(30) for take in "xy"]
    )
    dropped = {drop.source for drop in splits.dropped}
    assert dropped and {drop.reason for drop in splits.dropped} == {"duplicate_of_test"} and not splits.test_dropped
    assert not {c.content for c in splits.test} & {c.content for c in splits.pool}


def test_a_test_split_of_nothing_but_copies_is_an_error(clip: Make) -> None:
    clips = [clip(i, label, "train", content=f"{label}{i % 9}") for label in "ab" for i in range(20)]
    clips += [clip(90 + i, label, "test", content=f"{label}{i}") for label in "ab" for i in range(3)]
    with pytest.raises(DataError, match=r"every clip of the test split is a copy .*same audio as .*correct the split"):
        split(clips)


def test_the_oracle_learns_all_but_test_and_first_validation_up_to_its_cap(clip: Make) -> None:
    clips = [clip(i, label) for label in "ab" for i in range(100)]
    splits = split(clips, 20)
    train, validation = splits.replicates[0]
    expected = {c.clip_id for c in splits.pool} - {c.clip_id for c in validation}
    assert {c.clip_id for c in splits.oracle} == expected
    capped = split(clips, 20, oracle_max_clips=50)
    assert len(capped.oracle) == 50 and {c.clip_id for c in train} <= {c.clip_id for c in capped.oracle}


def test_a_fraction_overrides_given_test_rows_and_says_so(clip: Make) -> None:
    clips = [clip(i, label, "test" if i % 2 else "train") for label in "ab" for i in range(50)]
    splits = split(clips, 20, test=0.3)
    assert len(splits.test) == 30 and "test_drawn" in codes(splits)


def test_what_does_not_fit_is_said(clip: Make) -> None:
    clips = [clip(i, label) for label in "abcd" for i in range(20)]
    with pytest.raises(ConfigError, match=r"n=500 .*has 64 outside test"):
        split(clips, 500)
    with pytest.raises(ConfigError, match="n=3 training clips for 4 classes"):
        split(clips, 3)
    with pytest.raises(DataError, match=r"class 'e' has 2 usable clip.*at least 3"):
        split([*clips, clip(0, "e"), clip(1, "e")])
    with pytest.raises(DataError, match=r"class 'e' has 0 usable clip.*outside the test split"):
        split([*[clip(i, x, "test" if i < 3 else "train") for x in "ab" for i in range(9)], clip(0, "e", "test")])
    with pytest.raises(DataError, match=r"outside the test split \(20 in it\); .*put fewer into the test split"):
        split(clips, test=0.99)
    same = [clip(i, label, content="one") for label in "ab" for i in range(9)]
    with pytest.raises(DataError, match=r"\(\d in it, \d left out as copies of clips of other splits\)"):
        split(same)
    with pytest.raises(
        DataError, match=r"class 'a' has 0 usable clip\(s\) beside 9 for validation .*\(training, test\)"
    ):
        split([clip(i, label, "val") for label in "ab" for i in range(9)])
    with pytest.raises(DataError, match="test: split, but no splits are given"):
        split(clips, test="split")
    with pytest.raises(DataError, match="no clip is in the test split"):
        split([clip(i, label, "train") for label in "ab" for i in range(9)], test="split")


def test_a_remainder_too_small_to_hold_every_class_is_told(clip: Make) -> None:
    splits = split([clip(i, label, "test" if i < 5 else "train") for label in "abcd" for i in range(25)], 79)
    assert len(splits.replicates[0][0]) == 79 and len(splits.replicates[0][1]) == 1
    assert "small_validation" in codes(splits)
