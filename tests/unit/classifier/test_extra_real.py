from __future__ import annotations

from collections import Counter

from common.records.clips import GoldClip
from components.train_classifier.clips import extra_real_clips
from tests.kit.clips import gold_clip


def clips(label: str, count: int, group: str | None = None, start: int = 0) -> list[GoldClip]:
    return [gold_clip(f"{label}-{group}-{number}", label, group=group) for number in range(start, start + count)]


def test_extra_real_clips_are_as_many_as_synthetic_ones_and_none_of_the_replicates_own() -> None:
    dogs, cats = clips("dog", 40), clips("cat", 6)
    train, validation = [*dogs[:4], *cats[:2]], [*dogs[4:8], *cats[2:3]]
    extra = extra_real_clips(train, validation, [*dogs, *cats], 3, 0)
    assert Counter(clip.label for clip in extra) == {"dog": 12, "cat": 3}
    assert not {clip.clip_id for clip in extra} & {clip.clip_id for clip in (*train, *validation)}
    assert extra == extra_real_clips(train, validation, [*cats, *dogs[::-1]], 3, 0)
    assert extra != extra_real_clips(train, validation, [*dogs, *cats], 3, 1)


def test_a_recording_that_only_validation_has_does_not_come_in() -> None:
    train, validation = clips("dog", 2, "a"), clips("dog", 2, "b")
    others = [*clips("dog", 3, "a", 10), *clips("dog", 3, "b", 10), *clips("dog", 3, "c", 10)]
    extra = extra_real_clips(train, validation, others, 10, 0)
    assert {clip.group for clip in extra} == {"a", "c"}


def test_a_dataset_without_more_clips_gives_none() -> None:
    train, validation = clips("dog", 3), clips("dog", 3, start=3)
    assert extra_real_clips(train, validation, [*train, *validation], 2, 0) == []
