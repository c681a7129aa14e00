"""Files whose names are listed otherwise than they are written on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.config.dataset import DatasetSpec, PrepareDatasetConfig
from common.datasets.listing import list_clips
from common.datasets.rows import Listing
from components.prepare_dataset.dataset import read_dataset


def spec_of(root: Path, listed: list[str], there: list[str]) -> DatasetSpec:
    for name in there:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    lines = [f'"{name}",{"x" if number % 2 else "y"}' for number, name in enumerate([*listed, "other.wav"])]
    (root / "l.csv").write_text("\n".join(["path,label", *lines]), encoding="utf-8")
    (root / "other.wav").write_bytes(b"x")
    return DatasetSpec(name="own", labels=root / "l.csv")


def found(root: Path, listed: list[str], there: list[str]) -> tuple[list[str], Listing]:
    listing = list_clips(spec_of(root, listed, there))
    return [row.source for row in listing.rows if row.source != "other.wav"], listing


@pytest.mark.parametrize(
    ("listed", "there"),
    [
        *(
            ("f\u00eate/a.wav", "fe\u0302te/a.wav"),
            ("a/fe\u0302te.wav", "a/f\u00eate.wav"),
            ("\u1112\u1161\u11ab.wav", "\ud55c.wav"),
        ),
        *(("a\\b\\c.wav", "a/b/c.wav"), (".\\a\\c.wav", "a/c.wav"), ("a\\C.WAV", "A/c.wav")),
        *(
            ("a/1.WAV", "a/1.wav"),
            ("a/1.wav", "a/1.Wav"),
            ("Dog/Bark.wav", "dog/bark.wav"),
            ("STRASSE.wav", "stra\u00dfe.wav"),
        ),
        *(("\ufeffa.wav", "a.wav"), ("a\u200b.wav", "a.wav"), ("F\u00caTE.WAV", "fe\u0302te.wav")),
    ],
)
def test_a_file_is_found_under_another_spelling_of_its_name(tmp_path: Path, listed: str, there: str) -> None:
    sources, listing = found(tmp_path, [listed], [there])
    assert sources == [there] and all(row.path.is_file() for row in listing.rows)
    ((code, message, _),) = listing.notices
    assert code == "names_differ" and message.startswith("1 listed file(s) were found")
    assert ascii(there)[1:-1] in message


@pytest.mark.parametrize(
    ("listed", "there"),
    [
        (["A.wav"], ["a.wav", "a.WAV"]),
        (["a/x.wav"], ["A/x.wav", "a /../A/X.WAV"]),
        (["a.wav", "A.wav"], ["A.wav"]),
        (["a.wav"], ["b.wav"]),
        (["C:\\clips\\a.wav"], ["clips/a.wav"]),
        (["a" * 300 + ".wav"], []),
    ],
)
def test_a_name_that_fits_none_or_several_files_or_one_of_another_row_stays(
    tmp_path: Path, listed: list[str], there: list[str]
) -> None:
    if there[1:] == ["a /../A/X.WAV"]:
        (tmp_path / "a ").mkdir()
    sources, listing = found(tmp_path, listed, there)
    assert sources == listed and not listing.notices


def test_the_nearest_spelling_is_taken(tmp_path: Path) -> None:
    assert found(tmp_path, ["f\u00eate.wav"], ["fe\u0302te.wav", "Fe\u0302te.wav"])[0] == ["fe\u0302te.wav"]


def test_rows_that_mean_the_same_file_are_compared(tmp_path: Path) -> None:
    listing = list_clips(spec_of(tmp_path, ["a.WAV", "b.wav", "./A.wav"], ["a.wav", "b.wav"]))
    assert [(drop.source, drop.reason) for drop in listing.dropped] == [("a.wav", "duplicate_row")]


def test_absolute_paths_are_found_too(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, [f"{tmp_path}/X/A.wav"], ["x/a.wav"])
    assert list_clips(spec).rows[0].path == tmp_path / "x" / "a.wav"


@pytest.mark.parametrize(
    ("listed", "there", "hint"),
    [
        ("A.wav", ["a.wav", "a.WAV"], "beside it: 'a.WAV', 'a.wav'"),
        ("a.wav", ["a.flac"], "beside it: 'a.flac'"),
        ("a", ["a.wav"], "beside it: 'a.wav'"),
        ("clips/a.wav", ["a.wav"], "there is no folder"),
        ("b.wav", ["a.wav"], "no such file"),
        ("https:/x.org/a.wav", ["a.wav"], "an address is not fetched: download the file"),
    ],
)
def test_what_stands_beside_an_absent_file_is_told(tmp_path: Path, listed: str, there: list[str], hint: str) -> None:
    reading = read_dataset(spec_of(tmp_path, [listed], there), PrepareDatasetConfig(), None, 1)
    detail = next(drop.detail for drop in reading.dropped if drop.source == listed)
    assert hint in detail
