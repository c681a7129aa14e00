"""The stage from files to gold set and test split."""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from common.audio.signal import read_audio
from common.config.dataset import DatasetSpec, PrepareDatasetPlan
from common.contracts.base import read
from common.contracts.gold import Health, HeldOutHealth
from common.datasets.registry import resolve_dataset
from common.errors import ConfigError, DataError, StorageError
from common.records import audio_folder
from common.records.audio_folder import load_clip, read_clips
from common.records.clips import GoldClip
from common.records.gold import GoldSet
from common.runtime.split_guard import running_as
from common.storage import read_json
from components.prepare_dataset import run as stage_module
from components.prepare_dataset.run import run
from tests.kit.hashing import hash_dir

LABELS = ['say "hi", now', "../../up", "Straße / 雨", "two words"]


def dataset(folder: Path, per_class: int = 20, bad: int = 0) -> DatasetSpec:
    """Noise clips of four classes with awkward labels, six speakers; the last `bad` files are empty."""
    lines = []
    for label_id, label in enumerate(LABELS):
        for number in range(per_class):
            name = f"c{label_id}/{number}.wav"
            (folder / f"c{label_id}").mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng((label_id, number))
            soundfile.write(folder / name, 0.1 * rng.standard_normal(1600), 8000)
            lines.append({"path": name, "label": label, "group": f"speaker {number % 6}", "take": number})
    for line in lines[len(lines) - bad :]:
        (folder / str(line["path"])).write_bytes(b"")
    (folder / "labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return DatasetSpec(name="own", labels=folder / "labels.jsonl", domain="noises", licence="CC0-1.0")


def prepare(out: Path, spec: DatasetSpec, n: int | None = None, **settings: Any) -> dict[str, Any]:
    plan = PrepareDatasetPlan.model_validate(
        {"settings": {"storage_sample_rate_hz": 8000} | settings, "dataset": spec, "n": n, "replicates": (0, 1)}
    )
    # As KFP hands it over: every number a double.
    config = json.loads(plan.model_dump_json(), parse_int=float)
    return run(str(out / "gold"), str(out / "test"), str(out / "metrics.json"), config=config, code_version="c")


def health_of(gold: Path) -> Health:
    return read(Health, gold / "health.json")


def read_test(out: Path) -> list[GoldClip]:
    with running_as("evaluate_classifier"):
        return read_clips(out / "test", GoldClip)


def test_the_gold_set_holds_what_the_splits_name_and_the_test_split_stands_apart(tmp_path: Path) -> None:
    figures = prepare(tmp_path / "out", dataset(tmp_path / "data"), n=16)
    gold = GoldSet(tmp_path / "out" / "gold")
    test = read_test(tmp_path / "out")
    assert gold.labels == read_json(tmp_path / "out" / "test" / "labels.json") == sorted(LABELS)
    assert all(gold.labels[clip.label_id] == clip.label for clip in [*gold.clips.values(), *test])
    used = {clip.clip_id for replicate in (0, 1) for clip in [*gold.train(replicate), *gold.val(replicate)]}
    assert set(gold.clips) == used | {clip.clip_id for clip in gold.oracle()}
    for replicate in (0, 1):
        sides = [gold.train(replicate), gold.val(replicate), test]
        assert Counter(clip.label for clip in gold.train(replicate)) == dict.fromkeys(LABELS, 4)
        for key in ("clip_id", "group", "source"):
            values = [{getattr(clip, key) for clip in side} for side in sides]
            assert len(set().union(*values)) == sum(map(len, values)), key
    assert not set(gold.clips) & {clip.clip_id for clip in test}
    assert gold.load(gold.train(0)[0], 16000).shape == (3200,)
    health = health_of(gold.path)
    assert health.ignored_columns == ["take"] and health.test_split_by == "group"
    assert health.counts["train"] == figures["clips_train"] == 16 and "clips_test" not in figures
    assert read_json(tmp_path / "out" / "metrics.json") == figures
    names = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert all(name.isascii() for name in names) and not list(tmp_path.rglob("up*"))


def test_a_second_run_gives_the_same_bytes_and_reads_no_audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = dataset(tmp_path / "data")
    prepare(tmp_path / "first", spec, n=16)
    monkeypatch.setattr(stage_module, "read_dataset", None)
    prepare(tmp_path / "second", spec, n=16)
    for folder in ("first", "second"):
        # The account of the stage tells how long it took.
        (tmp_path / folder / "stage.json").unlink()
    assert hash_dir(tmp_path / "first") == hash_dir(tmp_path / "second")
    prepare(tmp_path / "third", spec, n=20, max_bad_fraction=0.1)
    assert len(GoldSet(tmp_path / "third" / "gold").train(0)) == 20


def test_bad_clips_are_listed_with_reasons_and_too_many_stop_the_stage(tmp_path: Path) -> None:
    prepare(tmp_path / "out", dataset(tmp_path / "data", bad=4))
    health = health_of(tmp_path / "out" / "gold")
    assert health.dropped_by_reason == {"empty_file": 4}
    assert [drop.source for drop in health.dropped] == [f"c3/{number}.wav" for number in range(16, 20)]
    assert health.counts == {**health.counts, "listed": 65, "usable": 61, "dropped": 4}
    with pytest.raises(DataError, match=r"5 of 80 clips .*c3/19.wav \(empty_file\)"):
        prepare(tmp_path / "worse", dataset(tmp_path / "data", bad=5))
    assert not list((tmp_path / "worse").rglob("*.flac"))


def test_a_class_that_loses_all_its_clips_is_not_dropped_in_silence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="class 'two words' has 0 usable"):
        prepare(tmp_path / "out", dataset(tmp_path / "data", per_class=4, bad=4))


def test_more_clips_than_there_are_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="n=1000 training clips asked for, but the dataset has"):
        prepare(tmp_path / "out", dataset(tmp_path / "data"), n=1000)


def given_split(folder: Path, test_seed: int, test_clips: int) -> DatasetSpec:
    """Clips of a given split; the test clips, and what is wrong with them, are others for another `test_seed`.

    They are of the same groups for seeds that differ by 6.
    """
    folder.mkdir()
    lines = ["path,label,split,group"]

    def add(name: str, label: str, split: str, seed: tuple[int, ...], group: str) -> None:
        soundfile.write(folder / name, 0.1 * np.random.default_rng(seed).standard_normal(1600), 8000)
        lines.append(f"{name},{label},{split},{group}")

    for number in range(24):
        add(f"train{number}.wav", "ab"[number % 2], "train" if number % 3 else "val", (number,), f"g{number % 6}")
    for number in range(test_clips):
        add(
            f"test{test_seed}-{number}.wav",
            "ab"[number % 2],
            "test",
            (1000 + test_seed, number),
            f"{'gt'[number > 0]}{test_seed % 6}",
        )
    # A copy of a training clip, one of a training group, and one that cannot be read.
    add(f"copy{test_seed}.wav", "a", "test", (test_seed,), f"g{test_seed % 6}")
    (folder / f"bad{test_seed}.wav").write_bytes(b"RIFF")
    lines.append(f"bad{test_seed}.wav,a,test,")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return DatasetSpec(name="own", labels=folder / "labels.csv", domain="noises", licence="CC0-1.0")


def test_another_test_split_leaves_every_byte_of_the_gold_set_and_of_the_figures(tmp_path: Path) -> None:
    for name, seed, clips in (("first", 2, 10), ("second", 8, 16)):
        prepare(tmp_path / name, given_split(tmp_path / f"{name} data", seed, clips), n=8)
    assert hash_dir(tmp_path / "first" / "gold") == hash_dir(tmp_path / "second" / "gold")
    assert read_json(tmp_path / "first" / "metrics.json") == read_json(tmp_path / "second" / "metrics.json")
    assert hash_dir(tmp_path / "first" / "test") != hash_dir(tmp_path / "second" / "test")
    health = read(HeldOutHealth, tmp_path / "second" / "test" / "health.json")
    assert health.dropped_by_reason == {"duplicate_of_training": 1, "unreadable": 1} and health.clips == 16
    assert health_of(tmp_path / "second" / "gold").dropped_by_reason == {"group_in_test": 4}


def test_a_group_that_cannot_be_taken_apart_is_told_where_the_test_split_is(tmp_path: Path) -> None:
    spec = given_split(tmp_path / "data", 2, 10)
    table = tmp_path / "data" / "labels.csv"
    table.write_text(re.sub(r",[gt]\d$", ",everyone", table.read_text(), flags=re.MULTILINE))
    prepare(tmp_path / "out", spec, n=8)
    assert "groups_shared" in read_json(tmp_path / "out" / "test" / "health.json")["warning_codes"]
    assert not any("test" in warning for warning in health_of(tmp_path / "out" / "gold").warnings)


def test_the_test_split_opens_in_evaluation_only(tmp_path: Path) -> None:
    prepare(tmp_path / "out", dataset(tmp_path / "data"))
    clip = read_test(tmp_path / "out")[0]
    test = tmp_path / "copied elsewhere"
    shutil.copytree(tmp_path / "out" / "test", test)
    opened: list[Callable[[], object]] = [
        lambda: read_clips(test, GoldClip),
        lambda: load_clip(test, clip, 8000),
        lambda: read_audio(test / "clips" / clip.file_name),
        lambda: GoldSet(test),
    ]
    for stage in ("train_classifier", "align_t2a", "caption_clips"):
        with running_as(stage):
            for attempt in opened:
                with pytest.raises(DataError, match=f"test split, and {stage} is not evaluate_classifier"):
                    attempt()
    with running_as("evaluate_classifier"):
        assert load_clip(test, clip, 8000).shape == (1600,)
    rows = [f"{clip.file_name},class {clip.label_id}\n" for clip in read_test(tmp_path / "out")]
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(rows))
    with pytest.raises(DataError, match="belongs to a test split, and prepare_dataset is not"):
        prepare(tmp_path / "again", DatasetSpec(name="own", labels=tmp_path / "labels.csv", audio=test / "clips"))


def test_a_full_disk_publishes_nothing_and_the_same_call_then_succeeds(
    tmp_path: Path, run_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = dataset(tmp_path / "data")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(audio_folder.os, "link", full)
        broken.setattr(audio_folder.shutil, "copyfile", full)
        with pytest.raises(StorageError, match="No space left on device; free some space"):
            prepare(tmp_path / "out", spec)
    # The account of the stage tells that it failed.
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["stage.json"]
    prepare(tmp_path / "out", spec)

    def full_store(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "data" / "c0" / "0.wav").touch()
    before = sorted(run_store.rglob("*"))
    with monkeypatch.context() as broken:
        broken.setattr(stage_module, "read_dataset", full_store)
        with pytest.raises(StorageError, match="free some space"):
            prepare(tmp_path / "again", spec)
    assert [path for path in sorted(run_store.rglob("*")) if path.is_file()] == [p for p in before if p.is_file()]


@pytest.mark.e2e
def test_the_demo_has_32_training_clips_of_each_class_alike(tmp_path: Path) -> None:
    spec = resolve_dataset("demo")
    prepare(tmp_path / "out", spec, n=spec.n, storage_sample_rate_hz=16000)
    gold = GoldSet(tmp_path / "out" / "gold")
    assert len(gold.labels) >= 6 and len(gold.train(0)) == len(gold.val(0)) == 32
    assert set(Counter(clip.label for clip in gold.train(0)).values()) == {32 // len(gold.labels)}
    assert gold.train(0) != gold.train(1) and not health_of(gold.path).warnings and not health_of(gold.path).notes
    assert min(Counter(clip.label for clip in read_test(tmp_path / "out")).values()) >= 40


def several_labels(folder: Path, extra: str = "", parts: tuple[str, ...] = ("train", "test")) -> DatasetSpec:
    """Clips with two of four labels, in official parts."""
    folder.mkdir()
    lines = ["path,label,split"]
    for part in parts:
        for number in range(16):
            name = f"{part}{number}.wav"
            soundfile.write(folder / name, 0.1 * np.random.default_rng((len(part), number)).standard_normal(1600), 8000)
            lines.append(f"{name},{'abcd'[number % 4]};{'bcda'[number % 4]},{part}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n" + extra)
    return DatasetSpec(
        name="own", labels=folder / "labels.csv", licence="CC0-1.0", multi_label=True, classes=("a", "b", "c", "d", "e")
    )


def test_clips_of_several_labels_keep_them_and_every_class_is_drawn(tmp_path: Path) -> None:
    prepare(tmp_path / "out", several_labels(tmp_path / "data"), n=4)
    gold = GoldSet(tmp_path / "out" / "gold")
    assert gold.multi_label and gold.labels == ["a", "b", "c", "d"]
    for replicate in (0, 1):
        train = gold.train(replicate)
        assert len(train) == 4 and {label for clip in train for label in gold.label_ids(clip)} == {0, 1, 2, 3}
    assert all(len(clip.further_labels) == 1 for clip in read_test(tmp_path / "out"))
    assert health_of(gold.path).classes == dict.fromkeys("abcd", 8)


def test_a_label_that_every_clip_has_is_told(tmp_path: Path) -> None:
    spec = several_labels(tmp_path / "data")
    assert spec.labels is not None
    lines = spec.labels.read_text().splitlines()
    spec.labels.write_text("\n".join([lines[0], *(line.replace(".wav,", ".wav,e;") for line in lines[1:])]) + "\n")
    prepare(tmp_path / "out", spec, n=4)
    health = health_of(tmp_path / "out" / "gold")
    assert health.warning_codes == ["label_everywhere"] and "has the label 'e': nothing" in health.warnings[0]


def test_a_row_with_an_unknown_label_and_a_class_without_training_clips_stop_the_stage(tmp_path: Path) -> None:
    unknown = several_labels(tmp_path / "unknown", "more.wav,a;dd,train\n")
    with pytest.raises(DataError, match=r"more\.wav: unknown label 'dd': did you mean d"):
        prepare(tmp_path / "out", unknown.model_copy(update={"classes": ("a", "b", "c", "d")}))
    absent = several_labels(tmp_path / "absent", "more.wav,a;e,test\n")
    shutil.copy(tmp_path / "absent" / "test0.wav", tmp_path / "absent" / "more.wav")
    with pytest.raises(
        DataError, match=r"class 'e' has 0 usable clip\(s\) outside the test split \(1 in it\); expected"
    ):
        prepare(tmp_path / "out", absent)


def test_of_a_large_dataset_the_drawn_clips_alone_are_decoded(tmp_path: Path) -> None:
    spec = dataset(tmp_path / "data")
    rows = [json.loads(line) for line in (tmp_path / "data" / "labels.jsonl").read_text().splitlines()]
    for row in rows:
        row["split"] = "test" if row["take"] < 4 else "train"
        row["group"] = f"{row['group']} {row['split']}"
    (tmp_path / "data" / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole = prepare(tmp_path / "whole", spec, n=8)
    assert prepare(tmp_path / "same", spec, n=8, max_pool_clips=64) == whole
    assert hash_dir(tmp_path / "whole" / "gold") == hash_dir(tmp_path / "same" / "gold")
    for row in [row for row in rows if row["split"] == "train"][::4]:
        (tmp_path / "data" / row["path"]).write_bytes(b"")
    prepare(tmp_path / "part", spec, n=8, max_pool_clips=40, max_bad_fraction=0.5)
    health = health_of(tmp_path / "part" / "gold")
    assert health.warning_codes == ["pool_limited"] and health.counts["listed"] == 64
    assert 0 < len(health.dropped) < 16 and health.counts["train"] == 8
    assert len(read_test(tmp_path / "part")) == 16
