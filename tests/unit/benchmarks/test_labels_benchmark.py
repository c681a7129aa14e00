"""The benchmark of synthetic labels on a small run."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import DataError
from common.storage import write_json
from tests.benchmarks.labels import WEIGHTS, measure, table
from tests.kit.clips import gold_clip, synthetic_clip
from tests.kit.gold import write_gold, write_synthetic
from tests.kit.sounds import TONES, tone


def a_run(folder: Path) -> Path:
    """Two labels; one clip a label trains, one tests; accepted clips are right, rejected ones have the other's label."""
    clips = {name: [gold_clip(f"{label}-{k}", label, i) for k in places for i, label in enumerate(TONES[:2])]
             for name, places in {"gold": range(6), "test": (6, 7)}.items()}  # fmt: skip
    audio = {clip.clip_id: tone(clip.label, int(clip.clip_id[-1])) for own in clips.values() for clip in own}
    parts = {name: [f"{label}-{k}" for label in TONES[:2]] for k, name in enumerate(("train", "val"))}
    for name, own in clips.items():
        write_gold(folder / name, own, {clip.clip_id: audio[clip.clip_id] for clip in own}, {0: parts})
    rows = []
    for kind, heard in {"accepted": (0, 1), "rejected": (1, 0)}.items():
        own, sound = [], {}
        for k in range(4):
            for label_id, label in enumerate(TONES[:2]):
                clip = synthetic_clip(f"{kind}-{label}-{k}", label, label_id)
                own.append(clip)
                sound[clip.clip_id] = tone(TONES[heard[label_id]], 20 + k)
                reason = None if kind == "accepted" else "low_margin"
                rows.append({"clip_id": clip.clip_id, "reason": reason, "second_probability": 0.9 if k else 0.1})
        write_synthetic(folder / kind, own, sound)
    write_json(folder / "accepted" / "filter.json", {"candidates": rows})
    artifacts = {
        "prepare-dataset": {"gold": str(folder / "gold"), "test": str(folder / "test")},
        "filter-audio": {kind: str(folder / kind) for kind in ("accepted", "rejected")},
    }
    write_json(folder / "run.json", {"artifacts": artifacts})
    return folder


def test_right_labels_and_the_learners_gain_are_told_apart(tmp_path: Path) -> None:
    own, rows = measure(a_run(tmp_path))
    assert own["plain"] == 100.0
    found = {row.kept: row for row in rows}
    assert {name: row.clips for name, row in found.items()} == {
        "all": 16, "accepted": 8, "accepted, the second judge sure": 6, "rejected": 8
    }  # fmt: skip
    assert found["accepted"].right["plain"] == 100.0 and found["rejected"].right["plain"] == 0.0
    assert found["all"].right["plain"] == 50.0
    assert found["accepted"].gains[WEIGHTS[0]] >= found["rejected"].gains[WEIGHTS[-1]]
    lines = table(own, rows).splitlines()
    assert len(lines) == 3 + len(rows) and {line.count("|") for line in lines} == {lines[0].count("|")}


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected run\.json there"):
        measure(tmp_path)
