"""VocalSound's layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from common.datasets.listing import list_layout
from common.errors import DataError

Put = Callable[..., Path]


def files(label: str = "/m/01b_21", name: str = "{speaker}_0_cough.wav") -> dict[str, str | None]:
    made: dict[str, str | None] = {}
    for split, speaker in (("tr", "f0003"), ("val", "m0011"), ("te", "f2020")):
        file = name.format(speaker=speaker)
        entry = {"wav": f"/data/sls/scratch/vocalsound_16k/{file}", "labels": label}
        made[f"datafiles/{split}.json"] = json.dumps({"data": [entry]})
        made[f"audio_16k/{file}"] = None
    return made


def test_clips_are_found_by_name_and_grouped_by_speaker(put: Put) -> None:
    listing = list_layout("vocalsound", put(files()))
    assert [(row.split, row.label, row.group) for row in listing.rows] == [
        ("train", "cough", "f0003"),
        ("val", "cough", "m0011"),
        ("test", "cough", "f2020"),
    ]
    assert all(row.path.is_file() for row in listing.rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: files("/m/0brhx"), "label '/m/0brhx'"),
        (lambda: files(name="cough.wav"), "names no speaker"),
        (lambda: {k: v for k, v in files().items() if not k.startswith("audio")}, "has no audio_16k or audio_44k"),
        (lambda: {**files(), "datafiles/te.json": "{}"}, "a list of clips under `data`"),
        (lambda: {**files(), "datafiles/te.json": "{"}, "te.json"),
    ],
)
def test_what_does_not_fit_is_an_error_that_says_so(
    put: Put, change: Callable[[], dict[str, str | None]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        list_layout("vocalsound", put(change()))
