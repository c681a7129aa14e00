"""The layout of DCASE 2017 task 4."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from common.datasets.listing import list_layout
from common.errors import DataError

Put = Callable[..., Path]


def files(label: str = "Bus") -> dict[str, str | None]:
    return {
        "metadata/training_set.csv": "-5QrBL6MzLg,60.000,70.000,"
        '"Fire engine, fire truck (siren),Car","/m/012n7d,/m/0k4j"\n'
        f"-0mjrMposBM,80.000,90.000,{label},/m/01bjv\n",
        "metadata/testing_set.csv": "--PG66A3lo4,10.000,20.000,Train,/m/07jdr\n",
        "metadata/groundtruth_weak_label_evaluation_set.csv": "-0fJOv7fGF4_230.000_240.000.wav\t0.0\t10.0\tTruck\n"
        "-0fJOv7fGF4_230.000_240.000.wav\t0.0\t10.0\tBicycle\n",
        "training/Y-5QrBL6MzLg_60.000_70.000.wav": None,
        "training/Y-0mjrMposBM_80.000_90.000.wav": None,
        "testing/--PG66A3lo4_10.000_20.000.wav": None,
        "evaluation/-0fJOv7fGF4_230.000_240.000.wav": None,
    }


def test_a_comma_inside_a_label_parts_nothing_and_files_may_begin_with_y(put: Put) -> None:
    listing = list_layout("dcase2017_task4", put(files()))
    assert [(row.split, row.label, row.further_labels, row.group) for row in listing.rows] == [
        ("train", "Fire engine, fire truck (siren)", ("Car",), "-5QrBL6MzLg"),
        ("train", "Bus", (), "-0mjrMposBM"),
        ("val", "Train", (), "--PG66A3lo4"),
        ("test", "Truck", ("Bicycle",), "-0fJOv7fGF4"),
    ]
    assert all(row.path.is_file() for row in listing.rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: files("Buss"), "label 'Buss'.*Bus"),
        (lambda: {k: v for k, v in files().items() if not k.startswith("testing/")}, "testing"),
        (lambda: {**files(), "metadata/testing_set.csv": "#NAME?,10.000,20.000,Train,/m/07jdr\n"}, "is no clip"),
        (lambda: {k: v for k, v in files().items() if not k.startswith("metadata")}, "expected metadata/"),
    ],
)
def test_what_does_not_fit_is_an_error_that_says_so(
    put: Put, change: Callable[[], dict[str, str | None]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        list_layout("dcase2017_task4", put(change()))
