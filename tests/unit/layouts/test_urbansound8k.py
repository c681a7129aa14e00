"""UrbanSound8K's layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from common.config.dataset import DatasetSpec
from common.datasets.listing import list_clips, list_layout
from common.datasets.registry import resolve_dataset
from common.errors import DataError

Put = Callable[..., Path]
HEADER = "slice_file_name,fsID,start,end,salience,fold,classID,class"
CLASSES = {3: "dog_bark", 7: "jackhammer"}


def files(folds: int = 10, rows_of: int = 10) -> dict[str, str | None]:
    rows, made = [], {}
    for fold in range(1, rows_of + 1):
        for number, label in CLASSES.items():
            name = f"{1000 + fold}-{number}-0-0.wav"
            rows.append(f"{name},{1000 + fold},58.5,62.5,1,{fold},{number},{label}")
            made |= {f"UrbanSound8K/audio/fold{fold}/{name}": ""} if fold <= folds else {}
    table = "\n".join([HEADER, *rows]) + "\n"
    return {
        **made,
        "UrbanSound8K/metadata/UrbanSound8K.csv": table,
        "UrbanSound8K/FREESOUNDCREDITS.txt": "",
        "UrbanSound8K/UrbanSound8K_README.txt": "",
    }


def test_clips_lie_in_the_folder_of_their_fold(put: Put) -> None:
    rows = list_layout("urbansound8k", put(files())).rows
    assert len(rows) == 20 and all(row.path.is_file() for row in rows)
    assert (rows[0].source, rows[0].label, rows[0].group, rows[0].fold) == (
        "audio/fold1/1001-3-0-0.wav",
        "dog_bark",
        "1001",
        1,
    )


def test_fold_ten_tests_unless_the_dataset_file_says_otherwise(put: Put) -> None:
    root = put(files())
    registered = resolve_dataset("urbansound8k").model_copy(update={"root": root})
    own = DatasetSpec(name="mine", reader="urbansound8k", root=root, test_folds=(3,))
    for spec, fold in ((registered, 10), (own, 3)):
        assert {row.fold for row in list_clips(spec).rows if row.split == "test"} == {fold}


def test_a_missing_folder_of_a_fold_is_named(put: Put) -> None:
    with pytest.raises(DataError, match=r"fold10 is missing; found fold1/, fold2/.* expected the clips of fold 10"):
        list_layout("urbansound8k", put(files(folds=9)))


def test_a_fold_missing_from_the_table_is_named(put: Put) -> None:
    with pytest.raises(DataError, match=r"lacks the fold\(s\) 9, 10; expected 1 to 10"):
        list_layout("urbansound8k", put(files(rows_of=8)))


def test_another_layout_says_what_was_found_and_what_was_expected(put: Put) -> None:
    with pytest.raises(DataError, match=r"expected metadata/UrbanSound8K\.csv .* found fold1/"):
        list_layout("urbansound8k", put({"fold1/100032-3-0-0.wav": ""}))
