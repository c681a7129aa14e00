"""Medley-solos-DB's layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from common.datasets.listing import list_layout
from common.errors import DataError

Put = Callable[..., Path]
TABLE = "Medley-solos-DB_metadata.csv"
HEADER = "subset,instrument,instrument_id,song_id,uuid4"
ROWS = [
    ("training", "clarinet", "0", "139", "163fd2b1-8e98-515a-f501-4742cc6d066f"),
    ("validation", "flute", "3", "210", "d07b1fc0-567d-52c2-fef4-239f31c9d40e"),
    ("test", "clarinet", "0", "000", "0e4371ac-1c6a-51ab-fdb7-f8abd5fbf1a3"),
]


def files(table: str = f"annotation/{TABLE}", clips: str = "audio/") -> dict[str, str | None]:
    named: dict[str, str | None] = {f"{clips}Medley-solos-DB_{row[0]}-{row[2]}_{row[4]}.wav": "" for row in ROWS}
    return {**named, table: "\n".join([HEADER, *map(",".join, ROWS)]) + "\n"}


@pytest.mark.parametrize(
    ("table", "clips"),
    [
        (f"annotation/{TABLE}", "audio/"),
        (TABLE, ""),
        (TABLE, "audio/"),
        (f"Medley-solos-DB/{TABLE}", "Medley-solos-DB/"),
    ],
)
def test_the_subset_is_the_split_and_the_song_the_group(put: Put, table: str, clips: str) -> None:
    listing = list_layout("medley_solos_db", put(files(table, clips)))
    assert all(row.path.is_file() for row in listing.rows)
    assert [(row.split, row.label, row.group) for row in listing.rows] == [
        ("train", "clarinet", "139"),
        ("val", "flute", "210"),
        ("test", "clarinet", "000"),
    ]
    assert listing.rows[1].source == "Medley-solos-DB_validation-3_d07b1fc0-567d-52c2-fef4-239f31c9d40e.wav"


def test_a_table_alone_says_that_the_clips_are_missing(put: Put) -> None:
    with pytest.raises(DataError, match=r"no clips .* expected audio/Medley-solos-DB_test-0.* found annotation/"):
        list_layout("medley_solos_db", put({f"annotation/{TABLE}": files()[f"annotation/{TABLE}"]}))


def test_clips_alone_say_that_the_table_is_missing(put: Put) -> None:
    with pytest.raises(DataError, match=rf"expected {TABLE} .* found audio/"):
        list_layout("medley_solos_db", put({"audio/Medley-solos-DB_test-0_x.wav": ""}))


def test_an_unknown_subset_is_told(put: Put) -> None:
    text = f"{HEADER}\nholdout,clarinet,0,1,x\n"
    with pytest.raises(DataError, match="line 2: subset is 'holdout'; expected training, validation or test"):
        list_layout("medley_solos_db", put({**files(), f"annotation/{TABLE}": text}))
