"""The layout of TUT Urban Acoustic Scenes 2018."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from common.datasets.listing import list_layout, list_located
from common.datasets.registry import resolve_dataset
from common.errors import ConfigError, DataError

Put = Callable[..., Path]
TOP = "TUT-urban-acoustic-scenes-2018-development/"
TRAIN = ["airport-barcelona-0-0-a", "airport-barcelona-0-1-a", "bus-vienna-14-500-a"]
TEST = ["airport-paris-2-80-a", "bus-london-17-600-a"]


def row(name: str, *more: str) -> str:
    return "\t".join([f"audio/{name}.wav", name.split("-")[0], *more])


def files() -> dict[str, str | None]:
    meta = [row(name, "-".join(name.split("-")[1:3]), "a") for name in TRAIN + TEST]
    return {
        f"{TOP}meta.csv": "\n".join(["filename\tscene_label\tidentifier\tsource_label", *meta]) + "\n",
        f"{TOP}evaluation_setup/fold1_train.txt": "\n".join(map(row, TRAIN)) + "\n",
        f"{TOP}evaluation_setup/fold1_test.txt": "".join(f"audio/{name}.wav\n" for name in TEST),
        f"{TOP}evaluation_setup/fold1_evaluate.txt": "\n".join(map(row, TEST)) + "\n",
        **{f"{TOP}audio/{name}.wav": "" for name in TRAIN + TEST},
    }


def test_the_lists_of_the_fold_are_the_split_and_the_location_the_group(put: Put) -> None:
    listing = list_layout("tut2018", put(files()))
    assert all(row.path.is_file() for row in listing.rows)
    assert [(row.source, row.label, row.split, row.group) for row in listing.rows[::2]] == [
        ("audio/airport-barcelona-0-0-a.wav", "airport", "train", "barcelona-0"),
        ("audio/bus-vienna-14-500-a.wav", "bus", "train", "vienna-14"),
        ("audio/bus-london-17-600-a.wav", "bus", "test", "london-17"),
    ]


def test_a_missing_list_of_the_fold_is_named(put: Put) -> None:
    made = files()
    del made[f"{TOP}evaluation_setup/fold1_evaluate.txt"]
    with pytest.raises(DataError, match=r"cannot read .*fold1_evaluate\.txt: No such file.*fold1_test\.txt"):
        list_layout("tut2018", put(made))


def test_a_clip_in_no_list_and_a_clip_in_no_table_are_named(put: Put) -> None:
    made = files()
    short = {**made, f"{TOP}evaluation_setup/fold1_train.txt": row(TRAIN[0]) + "\n"}
    with pytest.raises(DataError, match=r"meta\.csv, line 3: audio/airport-barcelona-0-1-a\.wav is in neither list"):
        list_layout("tut2018", put(short, "short"))
    table = "\n".join(str(made[f"{TOP}meta.csv"]).split("\n")[:-2])
    with pytest.raises(DataError, match=r"meta\.csv lacks 1 clips of the split, such as audio/bus-london"):
        list_layout("tut2018", put({**made, f"{TOP}meta.csv": table}, "table"))


def test_a_clip_on_both_sides_is_refused(put: Put) -> None:
    made = {**files(), f"{TOP}evaluation_setup/fold1_evaluate.txt": row(TRAIN[0]) + "\n"}
    with pytest.raises(DataError, match=r"fold1_evaluate\.txt, line 1: .* is in evaluation_setup/fold1_train\.txt too"):
        list_layout("tut2018", put(made))


def test_audio_alone_says_what_else_is_expected(put: Put) -> None:
    with pytest.raises(DataError, match=r"expected evaluation_setup/fold1_train\.txt .* found audio/"):
        list_layout("tut2018", put({"audio/airport-barcelona-0-0-a.wav": ""}))


def test_folds_make_no_sense_here(put: Put) -> None:
    spec = resolve_dataset("tut2018").model_copy(update={"root": put(files()), "test_folds": (1,)})
    with pytest.raises(ConfigError, match="is given, but it has no folds"):
        list_located(spec)
