"""FSD50K's layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from common.datasets.listing import list_layout
from common.errors import DataError

Put = Callable[..., Path]


def files(label: str = "Rain", split: str = "train", metadata: bool = True) -> dict[str, str | None]:
    made: dict[str, str | None] = {
        "FSD50K.ground_truth/vocabulary.csv": "0,Bark,/m/05tny_\n1,Rain,/m/06mb1\n2,Water,/m/0838f\n",
        "FSD50K.ground_truth/dev.csv": "fname,labels,mids,split\n"
        f'64760,"{label},Water","/m/06mb1,/m/0838f",{split}\n16399,Bark,/m/05tny_,val\n',
        "FSD50K.ground_truth/eval.csv": "fname,labels,mids\n37199,Bark,/m/05tny_\n",
        "FSD50K.dev_audio/64760.wav": None,
        "FSD50K.dev_audio/16399.wav": None,
        "FSD50K.eval_audio/37199.wav": None,
    }
    if metadata:
        made["FSD50K.metadata/dev_clips_info_FSD50K.json"] = json.dumps({"64760": {"uploader": "anna"}})
    return made


def test_clips_have_all_their_labels_the_official_split_and_the_uploader(put: Put) -> None:
    listing = list_layout("fsd50k", put(files()))
    assert [(row.source, row.split, row.label, row.further_labels, row.group) for row in listing.rows] == [
        ("FSD50K.dev_audio/64760.wav", "train", "Rain", ("Water",), "anna"),
        ("FSD50K.dev_audio/16399.wav", "val", "Bark", (), None),
        ("FSD50K.eval_audio/37199.wav", "test", "Bark", (), None),
    ]
    assert all(row.path.is_file() for row in listing.rows)


def test_without_metadata_there_are_no_groups(put: Put) -> None:
    assert {row.group for row in list_layout("fsd50k", put(files(metadata=False))).rows} == {None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: files(label="Rian"), "label 'Rian'.*Rain"),
        (lambda: files(split="dev"), "split 'dev'; expected train or val"),
        (lambda: {k: v for k, v in files().items() if "eval_audio" not in k}, "FSD50K.eval_audio"),
    ],
)
def test_what_does_not_fit_is_an_error_that_says_so(
    put: Put, change: Callable[[], dict[str, str | None]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        list_layout("fsd50k", put(change()))
