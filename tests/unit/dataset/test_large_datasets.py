"""Of a large dataset with official splits only a part of training and validation is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from common.config.dataset import DatasetSpec, PrepareDatasetConfig
from common.datasets.rows import Row
from components.prepare_dataset.dataset import limit_candidates, most_candidates, read_dataset
from components.prepare_dataset.doctor import examine
from components.prepare_dataset.drawing import draw_candidates

Write = Callable[..., DatasetSpec]


def rows(counts: dict[str, int], split: str | None = "train") -> list[Row]:
    return [
        Row(Path(f"/{split}-{label}{i}.wav"), f"{split}-{label}{i}.wav", label, split)
        for label, count in counts.items()
        for i in range(count)
    ]


def test_candidates_keep_the_shares_of_the_classes_and_spare_the_rare_ones() -> None:
    listed = rows({"a": 600, "b": 380, "c": 20, "d": 3})
    chosen = draw_candidates(listed, 100, 0)
    assert Counter(row.label for row in chosen) == {"a": 59, "b": 38, "c": 10, "d": 3}
    assert chosen == [row for row in listed if row in chosen]
    assert {row.source for row in chosen} == {row.source for row in draw_candidates(listed[::-1], 100, 0)}
    assert draw_candidates(listed, 1003, 0) == listed


def test_every_label_of_a_clip_counts_for_the_rare_ones() -> None:
    listed = [
        Row(Path(f"/{i}.wav"), f"{i}.wav", "a", "train", None, ("b",) * (i % 2) + ("rare",) * (i % 50 == 0))
        for i in range(1000)
    ]
    found = Counter(label for row in draw_candidates(listed, 100, 0) for label in row.labels)
    assert found["rare"] == 10 and 90 <= found["a"] <= 110 and 40 <= found["b"] <= 60


def test_only_official_training_and_validation_parts_are_limited() -> None:
    parts = {split: rows({"a": 50, "b": 50}, split) for split in ("train", "val", "test")}
    listed = [row for split in parts.values() for row in split]
    spec = DatasetSpec(name="own", audio=Path("/a"))
    kept = Counter(row.split for row in limit_candidates(listed, spec, 20))
    assert kept == {"train": 20, "val": 20, "test": 100}
    assert limit_candidates(listed, spec, 100) == listed and limit_candidates(listed, spec, None) == listed
    # A test split that is still to be drawn needs all clips.
    assert limit_candidates(listed, spec.model_copy(update={"test": 0.2}), 20) == listed
    assert limit_candidates(parts["train"], spec, 20) == parts["train"]


@pytest.mark.parametrize(("n", "expected"), [(None, None), (50, 100), (80, 160)])
def test_the_limit_leaves_at_least_twice_the_training_clips(n: int | None, expected: int | None) -> None:
    assert most_candidates(PrepareDatasetConfig(max_pool_clips=100), n) == expected


def test_what_is_not_drawn_is_not_opened_and_the_doctor_says_so(
    tmp_path: Path, write_dataset: Write, settings: PrepareDatasetConfig
) -> None:
    listed = [(f"{split}{i}.wav", "xy"[i % 2], split) for split in ("train", "test") for i in range(40)]
    spec = write_dataset(listed, "path,label,split")
    limited = settings.model_copy(update={"max_pool_clips": 24})
    first = read_dataset(spec, limited, None, 1, n=8)
    assert Counter(clip.split for clip in first.clips) == {"train": 24, "test": 40} and first.unread == 16
    drawn = {clip.source for clip in first.clips}
    for name, _, _ in listed:
        if name not in drawn:
            (tmp_path / name).write_bytes(b"")
    assert read_dataset(spec, limited, None, 1, n=8) == first
    found = examine(spec, limited, n=8)
    assert found.ok and found.health.warning_codes == ["pool_limited"] and "16 listed clips" in found.to_text()
    assert found.health.counts["train"] == found.health.counts["val"] == 8
