"""ESC-50's layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from common.config.dataset import DatasetSpec, PrepareDatasetConfig
from common.datasets.listing import list_clips, list_layout
from common.datasets.registry import resolve_dataset
from common.errors import ConfigError, DataError
from components.prepare_dataset.dataset import read_dataset
from components.prepare_dataset.splitting import split_clips

Put = Callable[..., Path]
HEADER = "filename,fold,target,category,esc10,src_file,take"


def clips(folds: int = 5) -> list[tuple[str, int, str, int]]:
    """Name, fold, category and source: in every fold two recordings of a dog, one in two takes, and two of rain."""
    found = []
    for fold in range(1, folds + 1):
        found += [(f"{fold}-{fold}00032-{take}-0.wav", fold, "dog", 100032 * fold) for take in "AB"]
        found.append((f"{fold}-{fold}10389-A-0.wav", fold, "dog", 110389 * fold))
        found += [(f"{fold}-{fold}{source}-A-10.wav", fold, "rain", source * fold) for source in (17367, 21189)]
    return found


def files(folds: int = 5, top: str = "ESC-50-master/") -> dict[str, str | None]:
    rows = [
        f"{name},{fold},{0 if category == 'dog' else 10},{category},True,{source},{name.split('-')[2]}"
        for name, fold, category, source in clips(folds)
    ]
    made: dict[str, str | None] = {f"{top}audio/{name}": None for name, *_ in clips(folds)}
    return {**made, f"{top}meta/esc50.csv": "\n".join([HEADER, *rows]) + "\n", f"{top}README.md": "ESC-50"}


@pytest.mark.parametrize("top", ["ESC-50-master/", ""])
def test_the_table_gives_label_fold_and_recording(put: Put, top: str) -> None:
    rows = list_layout("esc50", put(files(top=top))).rows
    assert [(row.source, row.fold, row.label, row.group) for row in rows] == [
        (f"audio/{name}", fold, category, str(source)) for name, fold, category, source in clips()
    ]
    assert all(row.path.is_file() for row in rows)


def test_fold_one_tests_and_no_recording_is_on_two_sides(put: Put) -> None:
    spec = resolve_dataset("esc50").model_copy(update={"root": put(files())})
    settings = PrepareDatasetConfig(storage_sample_rate_hz=8000, validation_min_groups=2)
    reading = read_dataset(spec, settings, None, 1)
    assert not reading.dropped and reading.labels == ["dog", "rain"]
    splits = split_clips(reading.clips, reading.labels, spec, settings, None, (0,))
    assert {clip.source for clip in splits.test} == {f"audio/{name}" for name, fold, *_ in clips() if fold == 1}
    train, validation = splits.replicates[0]
    sides = [{clip.group for clip in side} for side in (splits.test, train, validation)]
    assert splits.validation_by == "group" and sum(map(len, sides)) == len(set.union(*sides)) == 20


def test_clips_of_a_recording_that_is_in_the_test_fold_leave_the_others(put: Put, tmp_path: Path) -> None:
    made = files()
    shared = {"meta/esc50.csv": str(made["ESC-50-master/meta/esc50.csv"]).replace(",400128,", ",500160,")}
    root = put({name.removeprefix("ESC-50-master/"): text for name, text in made.items()} | shared)
    spec = resolve_dataset("esc50").model_copy(update={"root": root, "test_folds": (5,)})
    settings = PrepareDatasetConfig(storage_sample_rate_hz=8000, validation_min_groups=2)
    reading = read_dataset(spec, settings, None, 1)
    splits = split_clips(reading.clips, reading.labels, spec, settings, None, (0,))
    assert [(drop.source, drop.reason) for drop in splits.dropped] == [
        (f"audio/4-400032-{take}-0.wav", "group_in_test") for take in "AB"
    ]
    assert len(splits.pool) == 18 and len(splits.test) == 5


def test_the_user_may_choose_the_folds(put: Put, tmp_path: Path) -> None:
    root = put(files())
    own = tmp_path / "own.yaml"
    own.write_text(f"reader: esc50\nroot: {root}\ntest_folds: [1, 2]\nvalidation_folds: [3]\n")
    sides = {(row.fold, row.split) for row in list_clips(resolve_dataset(str(own))).rows}
    assert sides == {(1, "test"), (2, "test"), (3, "val"), (4, "train"), (5, "train")}


def test_a_missing_fold_is_named(put: Put) -> None:
    with pytest.raises(DataError, match=r"esc50\.csv lacks the fold\(s\) 5; expected 1 to 5"):
        list_layout("esc50", put(files(folds=4)))


def test_another_layout_says_what_was_found_and_what_was_expected(put: Put) -> None:
    root = put({"dog/1.wav": None, "rain/1.wav": None})
    with pytest.raises(DataError, match=r"layout of ESC-50: expected meta/esc50\.csv .* found dog/, rain/"):
        list_layout("esc50", root)


def test_a_table_without_clips_is_refused(put: Put) -> None:
    made = {name: text for name, text in files(top="").items() if text is not None}
    with pytest.raises(DataError, match=r"audio is missing; found README\.md, meta/ in its place"):
        list_layout("esc50", put(made))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("filename,fold,category\nx.wav,1,dog\n", "no column src_file; found filename, fold, category"),
        (f"{HEADER}\nx.wav,one,0,dog,True,1,A\n", "line 2: fold is 'one'; expected a whole number"),
        (f"{HEADER}\nx.wav,1,0\n", "line 2: 3 values; expected 7"),
        ("", "is empty"),
    ],
)
def test_a_damaged_table_is_told(put: Put, table: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        list_layout("esc50", put({"meta/esc50.csv": table, "audio/x.wav": None}))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"test_folds": ()},
            r"comes in folds 1, 2, 3, 4, 5: name those of the test split, such as `test_folds: \[5\]`",
        ),
        ({"test_folds": (6,)}, "no fold 6; it has folds 1, 2, 3, 4, 5"),
        ({"test_folds": (1, 2, 3, 4, 5)}, "no fold is left for training"),
    ],
)
def test_folds_that_cannot_be_are_refused(put: Put, fields: dict[str, object], said: str) -> None:
    spec = DatasetSpec.model_validate({"name": "esc50", "reader": "esc50", "root": put(files()), **fields})
    with pytest.raises(ConfigError, match=said):
        list_clips(spec)
