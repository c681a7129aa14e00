"""Words for the three splits, as folder names and in the column `split`."""

from __future__ import annotations

from collections.abc import Iterable

from common.errors import DataError

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


def check_split_names(names: Iterable[str], where: str) -> None:
    """Refuse `eval` beside `test`: in some datasets it is the validation split, in others the test split.

    Raises DataError: both occur.
    """
    words = {name.lower() for name in names}
    if (evaluation := words & {"eval", "evaluation"}) and (test := words & {"test", "testing"}):
        raise DataError(
            f"{where}: both {min(evaluation)} and {min(test)} are given; name the split that chooses models val, the "
            "one that is reported test"
        )
