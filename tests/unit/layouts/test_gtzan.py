"""GTZAN's layout and its filtered split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from common.datasets.layouts.gtzan import filtered_split
from common.datasets.listing import list_layout
from common.errors import DataError

Put = Callable[..., Path]
GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")


def files(suffix: str = "au", top: str = "genres/") -> dict[str, str | None]:
    return {f"{top}{genre}/{genre}.{number:05}.{suffix}": "" for genre in GENRES for number in range(100)}


def test_the_split_has_the_published_sizes_and_each_clip_once() -> None:
    split = filtered_split()
    assert Counter(split.values()) == {"train": 443, "val": 197, "test": 290}
    assert {genre for genre, _ in split} == set(GENRES) and all(0 <= number < 100 for _, number in split)
    # First and last clip of each published list.
    ends = {"train": [("blues", 29), ("rock", 99)], "val": [("blues", 0), ("rock", 85)]}
    assert all(
        split[clip] == side for side, clips in {**ends, "test": [("blues", 12), ("rock", 90)]}.items() for clip in clips
    )


@pytest.mark.parametrize(("suffix", "top"), [("au", "genres/"), ("wav", "Data/genres_original/")])
def test_clips_get_their_side_and_the_rest_is_left_alone(put: Put, suffix: str, top: str) -> None:
    listing = list_layout("gtzan", put(files(suffix, top)))
    assert len(listing.rows) == 930 and len(listing.ignored_files) == 70
    split = filtered_split()
    assert all(split[row.label, int(row.path.stem[-5:])] == row.split for row in listing.rows)
    assert (
        listing.rows[0].source == f"blues/blues.00000.{suffix}"
        and f"blues/blues.00098.{suffix}" not in listing.ignored_files
    )


def test_a_missing_genre_is_named(put: Put) -> None:
    made = {name: text for name, text in files().items() if "/rock/" not in name}
    with pytest.raises(DataError, match=r"rock is missing; .* expected clips such as rock\.00000\.au"):
        list_layout("gtzan", put(made))


def test_renamed_clips_are_refused(put: Put) -> None:
    made = {name.replace("blues.", "song-"): text for name, text in files().items()}
    with pytest.raises(DataError, match=r"expected clips such as blues\.00000\.au; found song-00000\.au"):
        list_layout("gtzan", put(made))


def test_another_layout_says_what_was_found_and_what_was_expected(put: Put) -> None:
    with pytest.raises(DataError, match=r"layout of GTZAN: expected genres .* found music/"):
        list_layout("gtzan", put({"music/blues.00000.au": ""}))
