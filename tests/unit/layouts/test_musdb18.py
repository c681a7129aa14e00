"""MUSDB18-HQ's layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from common.datasets.listing import list_layout
from common.errors import DataError

Put = Callable[..., Path]
STEMS = ("bass", "drums", "mixture", "other", "vocals")
TRACKS = {
    "train": ("A Classic Education - NightOwl", "ANiMAL - Clinic A"),
    "test": ("Al James - Schoolboy Facination",),
}


def files() -> dict[str, str | None]:
    return {
        f"{split}/{track}/{stem}.wav": None for split, tracks in TRACKS.items() for track in tracks for stem in STEMS
    }


def test_stems_are_labels_and_tracks_are_groups(put: Put) -> None:
    listing = list_layout("musdb18", put(files()))
    assert {(row.split, row.group) for row in listing.rows} == {
        (split, track) for split, tracks in TRACKS.items() for track in tracks
    }
    assert sorted(row.label for row in listing.rows) == sorted(STEMS * 3)
    assert all(row.path.is_file() for row in listing.rows)


def test_a_missing_stem_and_the_packed_form_are_errors_that_say_so(put: Put) -> None:
    lacking = {name: text for name, text in files().items() if not name.endswith("NightOwl/drums.wav")}
    with pytest.raises(DataError, match=r"NightOwl lacks drums\.wav"):
        list_layout("musdb18", put(lacking))


def test_the_packed_form_names_ffmpeg_and_the_other_form(put: Put) -> None:
    with pytest.raises(DataError, match=r"needs ffmpeg; get MUSDB18-HQ"):
        list_layout("musdb18", put({**files(), "train/Actions - One Minute Smile.stem.mp4": "x"}))
