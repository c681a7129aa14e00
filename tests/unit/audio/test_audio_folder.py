"""Audio sets on disk, and the gold set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.errors import DataError
from common.records.audio_folder import clip_path, copy_audio_folder, load_clip, read_clips
from common.records.clips import GoldClip
from common.records.gold import GoldSet
from tests.kit.clips import gold_clip, write_audio_folder
from tests.kit.gold import write_gold

LABELS = ['dog "bark"', "straße/../x"]


def record(clip_id: str, label_id: int = 0, **fields: str) -> GoldClip:
    return gold_clip(clip_id, LABELS[label_id], label_id, duration_s=0.05, **fields)


def sound(seed: int, channels: int = 1) -> np.ndarray:
    return 0.3 * np.random.default_rng(seed).standard_normal((channels, 800)).clip(-2, 2).astype(np.float32)


def test_clips_come_back_as_written_and_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text("[]")
    records = [record("b"), record("a", 1)]
    write_audio_folder(tmp_path, records, {"a": sound(0)[0], "b": sound(1, 2)}, 16000)
    assert read_clips(tmp_path, GoldClip) == records
    np.testing.assert_allclose(load_clip(tmp_path, records[1], 16000), sound(0)[0], atol=2e-5)
    np.testing.assert_allclose(load_clip(tmp_path, records[0], 16000), sound(1, 2).mean(axis=0), atol=2e-5)
    assert load_clip(tmp_path, records[0], 8000).shape == (400,)
    assert (tmp_path / "labels.json").exists()


def test_writing_again_replaces_and_a_failure_keeps_what_was_there(tmp_path: Path) -> None:
    write_audio_folder(tmp_path, [record("a")], {"a": sound(0)}, 16000)
    with pytest.raises(DataError, match="no file for the record 'c'"):
        write_audio_folder(tmp_path, [record("b"), record("c")], {"b": sound(1)}, 16000)
    assert [clip.clip_id for clip in read_clips(tmp_path, GoldClip)] == ["a"]
    write_audio_folder(tmp_path, [record("b")], {"b": sound(1)}, 16000)
    assert sorted(path.name for path in (tmp_path / "clips").iterdir()) == ["b.flac", "metadata.jsonl"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips"]


def test_copied_clips_are_the_same_bytes(tmp_path: Path) -> None:
    write_audio_folder(tmp_path / "from", [record("a")], {"a": sound(0)}, 16000)
    copy_audio_folder(tmp_path / "to", [record("a")], {"a": clip_path(tmp_path / "from", record("a"))})
    first, second = (clip_path(tmp_path / name, record("a")).read_bytes() for name in ("from", "to"))
    assert first == second


def test_an_empty_set_is_a_set(tmp_path: Path) -> None:
    write_audio_folder(tmp_path, [], {}, 16000)
    assert read_clips(tmp_path, GoldClip) == []


@pytest.mark.parametrize("name", ["../a.flac", "/etc/a.flac", "a/b.flac", "..", "a\\b.flac"])
def test_a_file_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="plain name"):
        write_audio_folder(tmp_path, [record("a", file_name=name)], {"a": sound(0)}, 16000)
    with pytest.raises(DataError, match="plain name"):
        load_clip(tmp_path, record("a", file_name=name), 16000)


def test_datasets_opens_the_folder_as_an_audiofolder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    records = [record("a"), record("b", 1)]
    write_audio_folder(tmp_path / "gold", records, {"a": sound(0), "b": sound(1)}, 16000)
    loaded = datasets.load_dataset(
        "audiofolder", data_dir=str(tmp_path / "gold" / "clips"), cache_dir=str(tmp_path / "cache")
    )["train"].cast_column("audio", datasets.Audio(decode=False))
    assert loaded["clip_id"] == ["a", "b"]
    assert loaded["label"] == LABELS
    assert Path(loaded[0]["audio"]["path"]).name == "a.flac"


def test_the_gold_set_gives_the_clips_of_each_replicate(tmp_path: Path) -> None:
    clips, audio = [record("a"), record("b", 1), record("c")], {name: sound(0) for name in "abc"}
    replicates = {0: {"train": ["a"], "val": ["b"]}, 7: {"train": ["c"], "val": []}}
    write_gold(tmp_path, clips, audio, replicates, oracle=["a", "c"], shared=False)
    gold = GoldSet(tmp_path)
    assert gold.labels == LABELS and gold.replicates == [0, 7] and not gold.shared
    assert [clip.clip_id for clip in [*gold.train(0), *gold.val(0), *gold.train(7), *gold.oracle()]] == list("abcac")
    assert gold.load(gold.clips["b"], 8000).shape == (400,)
    with pytest.raises(DataError, match="no replicate 3"):
        gold.train(3)
