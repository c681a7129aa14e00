from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from common.corpus.features import StoredFeatures, audio_shards, write_features
from common.errors import DataError
from tests.kit.corpus import write_corpus


def features(source: int) -> list[Tensor]:
    """Source n holds n clips of 1, 2, … rows."""
    generator = torch.Generator().manual_seed(source)
    return [60 * torch.randn(1 + index, 3, 4, generator=generator) for index in range(source)]


def read(source: int) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    for index, clip in enumerate(features(source)):
        yield clip, {"name": f"räuber {source}.{index}", "label": None}


SOURCES = [2, 0, 3, 1]
EXPECTED = [clip for source in SOURCES for clip in features(source)]


@dataclass(frozen=True)
class FailsAt:
    """Writes down what it reads, and fails at one source."""

    source: int | None
    told: Path

    def __call__(self, source: int) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        with self.told.open("a") as file:
            file.write(f"{source} ")
        for row in read(source):
            yield row
            if source == self.source:
                raise DataError("the machine broke down")


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    written = write_features(tmp_path, SOURCES, read)
    for stored in (written, StoredFeatures(tmp_path)):
        assert len(stored) == 6 and stored.rows == sum(map(len, EXPECTED))
        assert all(torch.equal(stored.clip(index), clip) for index, clip in enumerate(EXPECTED))
        assert [stored.facts(index)["name"] for index in range(6)] == [
            f"räuber {source}.{index}" for source in SOURCES for index in range(source)
        ]


def test_each_row_has_its_clip(tmp_path: Path) -> None:
    stored = write_features(tmp_path, SOURCES, read)
    owners = [stored.owner(row) for row in range(stored.rows)]
    assert owners == [index for index, clip in enumerate(EXPECTED) for _ in clip]
    rows = torch.stack([stored.row(row) for row in range(stored.rows)])
    assert torch.equal(rows, torch.cat(EXPECTED))


def test_a_killed_run_goes_on_with_the_first_missing_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.runtime.parallel.cpu_count", lambda: 1)
    told = tmp_path / "told"
    with pytest.raises(DataError, match="broke down"):
        write_features(tmp_path / "out", SOURCES, FailsAt(3, told))
    assert told.read_text() == "2 0 3 "
    stored = write_features(tmp_path / "out", SOURCES, FailsAt(None, told))
    assert told.read_text() == "2 0 3 3 1 "
    assert torch.equal(stored.sample(), torch.cat(EXPECTED))


def test_several_processes_write_what_one_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.runtime.parallel.cpu_count", lambda: 2)
    threads = torch.get_num_threads()
    assert torch.equal(write_features(tmp_path, SOURCES, read).sample(), torch.cat(EXPECTED))
    assert torch.get_num_threads() == threads


def test_half_precision_is_off_by_three_hundredths_of_a_decibel(tmp_path: Path) -> None:
    stored = write_features(tmp_path, SOURCES, read, "float16")
    far = torch.cat([(stored.clip(index) - clip).abs()[clip.abs() < 100] for index, clip in enumerate(EXPECTED)])
    assert stored.clip(0).dtype == torch.float32 and 0 < float(far.max()) <= 0.0313


def test_statistics_take_all_clips_or_evenly_spaced_ones(tmp_path: Path) -> None:
    stored = write_features(tmp_path, [1] * 40, read)
    assert len(stored.sample()) == 40
    assert len(stored.sample(10 * 3 * 4)) == 10
    with pytest.raises(DataError, match="keep_audio"):
        write_features(tmp_path / "none", [], read).sample()


def test_a_damaged_part_is_an_error(tmp_path: Path) -> None:
    write_features(tmp_path, SOURCES, read)
    part = tmp_path / "part-000000" / "values.bin"
    part.write_bytes(part.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"damaged.*delete"):
        StoredFeatures(tmp_path)


@pytest.mark.parametrize(("most", "expected"), [(None, 36), (5, 5), (100, 36)])
def test_the_first_clips_of_a_split_are_taken(tmp_path: Path, most: int | None, expected: int) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    clips = [clip.key for source in audio_shards(corpus, "train", most) for clip in source.read()]
    assert clips == [f"train{index:03d}" for index in range(expected)]


def test_no_clip_is_held_while_the_next_is_written(tmp_path: Path) -> None:
    """What was yielded before is gone when the reader is asked again."""
    alive: list[int] = []

    def reading(source: int) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        kept = list[weakref.ref[Tensor]]()
        for _ in range(20):
            clip = torch.zeros(2, 3)
            kept.append(weakref.ref(clip))
            yield clip, {}
            del clip
            alive.append(sum(reference() is not None for reference in kept))

    write_features(tmp_path, [0], reading)
    assert max(alive) <= 1
    assert np.memmap(tmp_path / "part-000000/values.bin", np.float32).size == 20 * 6


def test_parts_keep_no_file_open(tmp_path: Path) -> None:
    def opened() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = opened()
    stored = write_features(tmp_path, [1] * 30, read)
    assert len(stored) == 30 and opened() == before
